//! Which files there are, and what they are called.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use expect_test::{Expect, expect};

use super::*;
use crate::diag::Problems;

fn pictured(problems: &Problems) -> String {
    let mut text = String::new();
    for problem in problems.iter() {
        writeln!(text, "{problem}").expect("text");
        problem.hints.iter().for_each(|hint| writeln!(text, "  hint: {hint}").expect("text"));
    }
    text
}

/// What is exported where every job has passed but those on s390x.
fn planned(
    config: &str,
    images: &[&str],
    names: Option<&[&str]>,
    overrides: Overrides,
) -> Result<Vec<Archive>> {
    let family = family(config, images)?;
    let manifest = Document::new(MediaType::MANIFEST, "{}");
    let records = family.jobs().filter(|job| job.platform.architecture() != "s390x");
    let records: BTreeMap<JobId, Passed> =
        records.map(|job| (job.clone(), passed(&job, &manifest, manifest.digest()))).collect();
    let jobs: Option<BTreeSet<JobId>> =
        names.map(|names| family.jobs().filter(|job| names.contains(&job.unit.image.as_str())).collect());
    let asked = Asked { jobs: jobs.as_ref(), by_name: names.is_some(), overrides, ..Asked::default() };
    archives(&family, &asked, &records, &facts())
}

fn check_asked(
    config: &str,
    images: &[&str],
    names: Option<&[&str]>,
    overrides: Overrides,
    expected: &Expect,
) {
    match planned(config, images, names, overrides) {
        Ok(archives) => {
            let lines: String = archives.iter().map(|archive| format!("{archive}\n")).collect();
            expected.assert_eq(&lines);
        }
        Err(problems) => expected.assert_eq(&pictured(&problems)),
    }
}

fn check(config: &str, images: &[&str], expected: &Expect) {
    check_asked(config, images, None, Overrides::default(), expected);
}

const BOTH: &str = "registry = \"docker.io/hysds\"\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n";

#[test]
fn the_names_of_hysds_come_out() {
    check(
        &format!(
            "{BOTH}[tags]\ncommon = [\"develop\"]\n[[export]]\nimages = [\"verdi\"]\n\
             name = \"hysds-{{image}}-{{tag}}{{suffix}}.tar.gz\"\n"
        ),
        &["verdi", "base"],
        &expect![[r#"
            hysds-verdi-develop.tar.gz  verdi@linux/amd64  docker, gzip  hysds/verdi:develop
            hysds-verdi-develop-arm64.tar.gz  verdi@linux/arm64  docker, gzip  hysds/verdi:develop
        "#]],
    );
}

#[test]
fn each_platform_has_its_own_list_of_images() {
    check(
        &format!(
            "{BOTH}[[export]]\nimages = [\"a\", \"b\"]\nplatforms = [\"x86_64\"]\n\
             [[export]]\nimages = [\"a\"]\nplatforms = [\"aarch64\"]\ncompress = \"zstd\"\n"
        ),
        &["a", "b"],
        &expect![[r#"
            a-latest.tar.gz  a@linux/amd64  docker, gzip  hysds/a:latest
            b-latest.tar.gz  b@linux/amd64  docker, gzip  hysds/b:latest
            a-latest-arm64.tar.zst  a@linux/arm64  docker, zstd  hysds/a:latest
        "#]],
    );
}

#[test]
fn variants_platforms_and_names_inside_are_as_they_are_said() {
    check(
        "registry = \"quay.io/o\"\nplatforms = [\"linux/amd64\", \"linux/arm/v7\"]\n\
         [tags]\ncommon = [\"{date}\"]\nnames = { \"linux/amd64\" = \"x86_64\" }\n\
         [image.\"t/a\"]\nfolder = \"a\"\n\
         variants.cuda = { platforms = [\"linux/amd64\"] }\n\
         variants.own = { platforms = [\"linux/amd64\"], repository = \"o/own\" }\n\
         [[export]]\nname = \"{platform}/{image}_{variant}.tar\"\nreferences = [\"{repository}:{tag}\", \"l/{image}:v1{suffix}\"]\n\
         suffixes = { amd64 = \"-x\" }\ntag = \"{commit}\"\n[[export]]\nformat = \"oci\"\n",
        &["a"],
        &expect![[r#"
            x86_64/t-a_.tar  t/a@linux/amd64  docker, none  quay.io/o/t/a:0123456789ab  l/t/a:v1-x
            arm-v7/t-a_.tar  t/a@linux/arm/v7  docker, none  quay.io/o/t/a:0123456789ab  l/t/a:v1-arm-v7
            x86_64/t-a_cuda.tar  t/a:cuda@linux/amd64  docker, none  quay.io/o/t/a:cuda-0123456789ab  l/t/a:v1-x
            x86_64/t-a_own.tar  t/a:own@linux/amd64  docker, none  quay.io/o/own:0123456789ab  l/t/a:v1-x
            t-a-2026-11-21.tar  t/a@linux/amd64  oci, none  quay.io/o/t/a:2026-11-21
            t-a-2026-11-21-arm-v7.tar  t/a@linux/arm/v7  oci, none  quay.io/o/t/a:2026-11-21
            t-a-cuda-2026-11-21.tar  t/a:cuda@linux/amd64  oci, none  quay.io/o/t/a:cuda-2026-11-21
            t-a-own-2026-11-21.tar  t/a:own@linux/amd64  oci, none  quay.io/o/own:2026-11-21
        "#]],
    );
}

#[test]
fn an_oci_layout_takes_the_platforms_whose_files_have_one_name() {
    check(
        &format!("{BOTH}[[export]]\nformat = \"oci\"\nname = \"{{image}}.tar.zst\"\n"),
        &["a", "b"],
        &expect![[r#"
            a.tar.zst  a@linux/amd64,linux/arm64  oci, zstd  hysds/a:latest
            b.tar.zst  b@linux/amd64,linux/arm64  oci, zstd  hysds/b:latest
        "#]],
    );
}

#[test]
fn images_that_are_named_are_exported_as_configured_or_plainly() {
    let config =
        format!("{BOTH}[[export]]\nimages = [\"a\"]\nplatforms = [\"linux/amd64\"]\nname = \"mine.tgz\"\n");
    check_asked(
        &config,
        &["a", "b", "c"],
        Some(&["a", "b"]),
        Overrides::default(),
        &expect![[r#"
        mine.tgz  a@linux/amd64  docker, gzip  hysds/a:latest
        b-latest.tar.gz  b@linux/amd64  docker, gzip  hysds/b:latest
        b-latest-arm64.tar.gz  b@linux/arm64  docker, gzip  hysds/b:latest
    "#]],
    );
    let overrides = Overrides {
        name: Some("{image}{suffix}.tar".parse().expect("a name")),
        tag: Some("v6.1.0".parse().expect("a tag")),
        ..Overrides::default()
    };
    check_asked(
        &config,
        &["a", "b"],
        Some(&["a"]),
        overrides,
        &expect![[r#"
        a.tar  a@linux/amd64  docker, none  hysds/a:v6.1.0
    "#]],
    );
}

#[test]
fn what_is_not_there_is_told_where_it_is_written() {
    check(
        &format!("{BOTH}[[export]]\nimages = [\"vredi\", \"base\", \"base\"]\n"),
        &["verdi", "base"],
        &expect![[r#"
            polyarch.toml:4:11: there is no image `vredi` to export
              hint: did you mean `verdi`?
            polyarch.toml:4:28: `base` stands twice in the list
              hint: remove one of the two
        "#]],
    );
    check(
        BOTH,
        &["a"],
        &expect![[r#"
        there is nothing to export
          hint: name images: polyarch export IMAGE
          hint: or write `[[export]]` and `images = ["IMAGE"]` into polyarch.toml
    "#]],
    );
    check(
        "platforms = [\"linux/amd64\", \"linux/s390x\"]\n[[export]]\n",
        &["a", "b"],
        &expect![[r#"
        a@linux/s390x is not built and tested as it is now
          hint: build it: polyarch build a@linux/s390x
        b@linux/s390x is not built and tested as it is now
          hint: build it: polyarch build b@linux/s390x
    "#]],
    );
}

#[test]
fn two_exports_of_one_name_are_refused() {
    for name in ["{image}.tar", "{image}.tar.gz"] {
        let problems =
            planned(&format!("{BOTH}[[export]]\nname = \"{name}\"\n"), &["a"], None, Overrides::default());
        assert!(problems.expect_err("one name").to_string().contains("two exports have one name"));
    }
    check(
        &format!("{BOTH}[[export]]\n[[export]]\nplatforms = [\"linux/amd64\"]\nname = \"A-Latest.tar.gz\"\n"),
        &["a"],
        &expect![[r#"
            two exports have one name, `A-Latest.tar.gz`: a@linux/amd64 and a@linux/amd64 make it
              hint: put `{image}`, `{suffix}` or `{platform}` into `name`, or name the image in one `[[export]]`
        "#]],
    );
    check(
        &format!(
            "{BOTH}[[export]]\nplatforms = [\"linux/amd64\"]\nname = \"x.tar\"\n\
             [[export]]\nplatforms = [\"linux/arm64\"]\nname = \"x.tar/{{image}}.tar\"\n"
        ),
        &["a"],
        &expect![[r#"
            the file `x.tar` would be the folder of `x.tar/a.tar`
              hint: give one of them another name
        "#]],
    );
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    check(
        &format!(
            "{BOTH}[[export]]\nname = \"../{{image}}.tar\"\n[[export]]\nname = \"a.tar.gz\"\ncompress = \"zstd\"\n"
        ),
        &["a"],
        &expect![[r#"
            polyarch.toml:4:8: `../{image}.tar` is not the name of a file below the folder of exports
              hint: write it as "{image}.tar.gz"
            polyarch.toml:6:8: the name `a.tar.gz` promises the compression `gzip`, but `zstd` is asked for
              hint: let the name end in `.tar.zst`
        "#]],
    );
    check(
        &format!(
            "{BOTH}[[export]]\nformat = \"doker\"\nimages = []\nnames = \"x\"\nsuffixes = {{ amd64 = \"/x\" }}\n\
             references = [\"{{repository}}\"]\ntag = \"{{version}}\"\n"
        ),
        &["a"],
        &expect![[r#"
            polyarch.toml:3:1: the list of images is empty
              hint: name images, or remove the line: then all are meant
            polyarch.toml:4:10: `format` cannot be `doker`
              hint: did you mean `docker`?
            polyarch.toml:6:1: there is no setting `names` in `export`
              hint: did you mean `name`?
            polyarch.toml:7:22: `/x` cannot end a tag
              hint: use at most 64 of a-z, A-Z, 0-9, `_`, `.` and `-`, or nothing
            polyarch.toml:8:15: `{repository}` is no name and tag of an image
              hint: write it as "{repository}:{tag}"
            polyarch.toml:9:7: `{version}` asks for `{version}`, which is not known here
              hint: use `{commit}`, `{date}`
        "#]],
    );
    let overrides = Overrides { compress: Some(crate::config::Compression::Zstd), ..Overrides::default() };
    check_asked(
        &format!("{BOTH}[[export]]\nname = \"{{image}}{{suffix}}.tar\"\n"),
        &["a"],
        None,
        overrides,
        &expect![[r#"
            the name `{image}{suffix}.tar` promises the compression `none`, but `zstd` is asked for
              hint: let the name end in `.tar.zst`
        "#]],
    );
}

#[test]
fn lists_that_export_nothing_are_pointed_at() {
    let config = "platforms = [\"linux/amd64\"]\ntests = [\"true\"]\n[image.b]\nplatforms = [\"linux/arm64\"]\n\
        [[export]]\nimages = [\"a\", \"b\"]\nplatforms = [\"linux/amd64\", \"linux/s390x\"]\n";
    let family = family(config, &["a", "b"]).expect("a family");
    let told: String = family.warnings.iter().map(|warning| format!("{warning}\n")).collect();
    expect![[r#"
        polyarch.toml:7:29: none of the images that are exported here is for linux/s390x
        polyarch.toml:5:1: `b` is for none of the platforms that are exported here
    "#]]
    .assert_eq(&told);
}
