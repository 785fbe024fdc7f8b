//! The gallery: a family before, and what the program answers. Each test shows one folder of `tests/families`.
//!
//! `in/` holds the files of the family; `in/arguments` the command line where it is not `plan`, and `in/environment`
//! variables. `out/` holds the answer, which `UPDATE=1` writes anew: read it as the person would who gets it.

use std::path::{Path, PathBuf};

use crate::program::{Answer, Place, variable};

/// The folder of all cases.
fn gallery() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/families")
}

/// Run one case, and compare its answer with the picture of it.
#[track_caller]
fn case(name: &str) {
    let folder = gallery().join(name);
    let mut place = Place::new();
    copy(&folder.join("in"), &place.family());
    let arguments = taken(&place, "arguments").unwrap_or_else(|| "plan".to_owned());
    for line in taken(&place, "environment").unwrap_or_default().lines() {
        let (variable, value) = line.split_once('=').expect("NAME=value");
        place.set(variable, value);
    }
    let arguments: Vec<String> = arguments.split_whitespace().map(|word| word.replace("%20", " ")).collect();
    let answer = place.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    compare(&folder.join("out"), &redacted(answer, &place));
}

/// A file that is for the test and no part of the family.
fn taken(place: &Place, name: &str) -> Option<String> {
    let file = place.family().join(name);
    let text = std::fs::read_to_string(&file).ok()?;
    std::fs::remove_file(file).expect("remove a file of the test");
    Some(text)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("make a folder");
    for entry in std::fs::read_dir(from).expect("a folder of the case") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        match entry.file_type().expect("a type").is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).expect("copy a file")),
        }
    }
}

/// What differs from machine to machine and from version to version, by a name.
fn redacted(answer: Answer, place: &Place) -> [(&'static str, String); 3] {
    let folder = place.folder().canonicalize().expect("the place is there");
    let machine =
        format!("linux/{}", std::env::consts::ARCH).replace("x86_64", "amd64").replace("aarch64", "arm64");
    let assumed = !place.family().join("polyarch.toml").is_file();
    let plain = |text: String| {
        let text = text.replace(&folder.display().to_string(), "[FOLDER]");
        let text = text.replace(env!("CARGO_PKG_VERSION"), "[VERSION]");
        if assumed { text.replace(&machine, "[MACHINE]") } else { text }
    };
    let code = answer.code.map_or_else(|| "killed\n".to_owned(), |code| format!("{code}\n"));
    [("stdout", plain(answer.stdout)), ("stderr", plain(answer.stderr)), ("code", code)]
}

#[track_caller]
fn compare(out: &Path, answer: &[(&str, String)]) {
    if variable("UPDATE").is_some() {
        std::fs::create_dir_all(out).expect("a folder for the picture");
        answer
            .iter()
            .for_each(|(name, text)| std::fs::write(out.join(name), text).expect("write the picture"));
    }
    for (name, text) in answer {
        let picture = std::fs::read_to_string(out.join(name)).unwrap_or_default();
        assert!(
            picture == *text,
            "{} has changed (UPDATE=1 writes it anew)\n--- picture\n{picture}\n--- answer\n{text}",
            out.join(name).display()
        );
    }
}

#[test]
fn every_case_is_shown_by_a_test() {
    let tests = include_str!("families.rs");
    for entry in std::fs::read_dir(gallery()).expect("the gallery") {
        let name = entry.expect("a case").file_name().to_string_lossy().into_owned();
        assert!(tests.contains(&format!("case(\"{name}\")")), "no test shows tests/families/{name}");
    }
}

#[test]
fn docker_stacks() {
    case("docker-stacks");
}

#[test]
fn docker_stacks_mermaid() {
    case("docker-stacks-mermaid");
}

#[test]
fn f_c1_config_is_folder() {
    case("f-c1-config-is-folder");
}

#[test]
fn f_c1_dockerfile_lost() {
    case("f-c1-dockerfile-lost");
}

#[test]
fn f_c1_dockerfile_names() {
    case("f-c1-dockerfile-names");
}

#[test]
fn f_c1_folder_is_file() {
    case("f-c1-folder-is-file");
}

#[test]
fn f_c1_listen_nowhere() {
    case("f-c1-listen-nowhere");
}

#[test]
fn f_c1_no_config() {
    case("f-c1-no-config");
}

#[test]
fn f_c1_no_folder() {
    case("f-c1-no-folder");
}

#[test]
fn f_c1_nothing() {
    case("f-c1-nothing");
}

#[test]
fn f_c10_aliases() {
    case("f-c10-aliases");
}

#[test]
fn f_c10_option() {
    case("f-c10-option");
}

#[test]
fn f_c10_wrong_platforms() {
    case("f-c10-wrong-platforms");
}

#[test]
fn f_c11_docker_hub() {
    case("f-c11-docker-hub");
}

#[test]
fn f_c11_names() {
    case("f-c11-names");
}

#[test]
fn f_c11_scopes() {
    case("f-c11-scopes");
}

#[test]
fn f_c12_one_tag() {
    case("f-c12-one-tag");
}

#[test]
fn f_c13_templates() {
    case("f-c13-templates");
}

#[test]
fn f_c14_ignore() {
    case("f-c14-ignore");
}

#[test]
fn f_c14_patterns() {
    case("f-c14-patterns");
}

#[test]
fn f_c15_copy_of_nothing() {
    case("f-c15-copy-of-nothing");
}

#[test]
fn f_c15_missing() {
    case("f-c15-missing");
}

#[test]
fn f_c15_outside() {
    case("f-c15-outside");
}

#[test]
fn f_c17_by_hand() {
    case("f-c17-by-hand");
}

#[test]
fn f_c17_secrets() {
    case("f-c17-secrets");
}

#[test]
fn f_c18_build_arg() {
    case("f-c18-build-arg");
}

#[test]
fn f_c18_given() {
    case("f-c18-given");
}

#[test]
fn f_c2_bom_and_crlf() {
    case("f-c2-bom-and-crlf");
}

#[test]
fn f_c2_config_empty() {
    case("f-c2-config-empty");
}

#[test]
fn f_c2_config_latin1() {
    case("f-c2-config-latin1");
}

#[test]
fn f_c2_config_nul() {
    case("f-c2-config-nul");
}

#[test]
fn f_c2_config_utf16() {
    case("f-c2-config-utf16");
}

#[test]
fn f_c2_dockerfiles() {
    case("f-c2-dockerfiles");
}

#[test]
fn f_c20_version() {
    case("f-c20-version");
}

#[test]
fn f_c4_deep() {
    case("f-c4-deep");
}

#[test]
fn f_c5_by_case() {
    case("f-c5-by-case");
}

#[test]
fn f_c5_image_by_case() {
    case("f-c5-image-by-case");
}

#[test]
fn f_c5_key_twice() {
    case("f-c5-key-twice");
}

#[test]
fn f_c5_twice() {
    case("f-c5-twice");
}

#[test]
fn f_c6_command() {
    case("f-c6-command");
}

#[test]
fn downstream_stood_upon() {
    case("downstream-stood-upon");
}

#[test]
fn downstream_no_truth() {
    case("downstream-no-truth");
}

#[test]
fn f_c6_image() {
    case("f-c6-image");
}

#[test]
fn f_c6_option() {
    case("f-c6-option");
}

#[test]
fn f_c6_type() {
    case("f-c6-type");
}

#[test]
fn f_c6_unknown_keys() {
    case("f-c6-unknown-keys");
}

#[test]
fn f_c7_circles() {
    case("f-c7-circles");
}

#[test]
fn f_c8_not_there() {
    case("f-c8-not-there");
}

#[test]
fn f_c9_platform_lacks() {
    case("f-c9-platform-lacks");
}

#[test]
fn f_d1_from_lines() {
    case("f-d1-from-lines");
}

#[test]
fn f_d1_wrong_from() {
    case("f-d1-wrong-from");
}

#[test]
fn f_d2_directives() {
    case("f-d2-directives");
}

#[test]
fn f_d2_frontend_argument() {
    case("f-d2-frontend-argument");
}

#[test]
fn f_d2_frontend_by_hand() {
    case("f-d2-frontend-by-hand");
}

#[test]
fn f_d3_heredoc_open() {
    case("f-d3-heredoc-open");
}

#[test]
fn f_d4_argument() {
    case("f-d4-argument");
}

#[test]
fn f_d7_unreachable_base() {
    case("f-d7-unreachable-base");
}

#[test]
fn f_d8_copy_from() {
    case("f-d8-copy-from");
}

#[test]
fn f_d8_copy_from_nothing() {
    case("f-d8-copy-from-nothing");
}

#[test]
fn hysds_suffix_tags() {
    case("hysds-suffix-tags");
}

#[test]
fn init_print() {
    case("init-print");
}

#[test]
fn no_configuration() {
    case("no-configuration");
}

#[test]
fn plan_descendants() {
    case("plan-descendants");
}

#[test]
fn plan_dot() {
    case("plan-dot");
}

#[test]
fn plan_json() {
    case("plan-json");
}

#[test]
fn s2_3_plan_barrier() {
    case("plan-barrier");
}

#[test]
fn s2_3_plan_barrier_json() {
    case("plan-barrier-json");
}

#[test]
fn s2_3_plan_barrier_mermaid() {
    case("plan-barrier-mermaid");
}

#[test]
fn plan_mermaid() {
    case("plan-mermaid");
}

#[test]
fn f_c8_base_mistyped() {
    case("f-c8-base-mistyped");
}

#[test]
fn plan_text() {
    case("plan-text");
}

#[test]
fn warnings() {
    case("warnings");
}

#[test]
fn why() {
    case("why");
}

#[test]
fn f_c13_values_of_templates() {
    case("f-c13-values-of-templates");
}

#[test]
fn f_c14_images_match_nothing() {
    case("f-c14-images-match-nothing");
}

#[test]
fn f_c2_dockerfile_without_from() {
    case("f-c2-dockerfile-without-from");
}

#[test]
fn f_d4_digest() {
    case("f-d4-digest");
}

#[test]
fn f_d1_platform_of_from() {
    case("f-d1-platform-of-from");
}

#[test]
fn f_d9_on_build() {
    case("f-d9-on-build");
}

#[test]
fn inspect_unreachable() {
    case("inspect-unreachable");
}

#[test]
fn publish_nothing() {
    case("publish-nothing");
}

#[test]
fn verify_nothing() {
    case("verify-nothing");
}

#[test]
fn export_nothing() {
    case("export-nothing");
}

#[test]
fn export_not_built() {
    case("export-not-built");
}

#[test]
fn f_c6_export() {
    case("f-c6-export");
}

#[test]
fn export_names() {
    case("export-names");
}

#[test]
fn f_y5_platforms_of_nobody() {
    case("f-y5-platforms-of-nobody");
}

#[test]
fn select_nothing() {
    case("select-nothing");
}
