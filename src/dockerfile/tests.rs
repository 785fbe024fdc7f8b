//! Dockerfiles and what one build of them reads, as tables.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use proptest::prelude::*;

use super::*;

/// Arguments as `A=1;B=2`, `target=…` and `platform=…` among them.
fn build(text: &str, settings: &str) -> Result<(Dockerfile, Needs), Problems> {
    let mut args = BTreeMap::new();
    let mut target = None;
    let mut platform =
        BuildPlatform { os: "linux".to_owned(), architecture: "amd64".to_owned(), variant: None };
    for (name, value) in settings.split(';').filter_map(|setting| setting.split_once('=')) {
        match name {
            "target" => target = Some(value),
            "platform" => {
                let mut parts = value.split('/').map(ToOwned::to_owned);
                platform.os = parts.next().unwrap();
                platform.architecture = parts.next().unwrap();
                platform.variant = parts.next();
            }
            _ => {
                args.insert(name.to_owned(), value.to_owned());
            }
        }
    }
    let file = Dockerfile::parse(Path::new("Dockerfile"), text)?;
    let needs = file.needs(&Request { target, args: &args, platform: &platform })?;
    Ok((file, needs))
}

/// What a build reads, in one line.
fn summary(text: &str, settings: &str) -> String {
    let needs = match build(text, settings) {
        Ok((_, needs)) => needs,
        Err(problems) => return format!("error {problems}"),
    };
    let mut line = String::new();
    for image in &needs.references {
        let how = match image.how {
            How::From { final_chain: true, .. } => "FROM",
            How::From { final_chain: false, .. } => "from",
            How::CopyFrom => "copy",
            How::MountFrom => "mount",
            How::Onbuild => "onbuild",
        };
        write!(line, "{how} {}", image.reference).unwrap();
        if let Some(platform) = &image.platform {
            write!(line, " on {platform}").unwrap();
        }
        line.push_str("; ");
    }
    if needs.base == BaseOfTarget::Scratch {
        line.push_str("scratch; ");
    }
    for source in &needs.sources {
        match source {
            Source::Context(sources) => {
                let all = if sources.patterns.iter().any(super::pattern::PathPattern::is_everything) {
                    " (all)"
                } else {
                    ""
                };
                write!(line, "read {}{all}; ", sources.written.join(" ")).unwrap();
            }
            Source::Remote(remote) => {
                write!(line, "{:?} {}", remote.kind, remote.location).unwrap();
                write!(line, "{}; ", remote.checksum.iter().map(|sum| format!(" {sum}")).collect::<String>())
                    .unwrap();
            }
        }
    }
    needs.onbuild.iter().for_each(|trigger| write!(line, "trigger {trigger:?}; ").unwrap());
    needs.secrets.iter().for_each(|secret| write!(line, "secret {secret}; ").unwrap());
    if needs.ssh {
        line.push_str("ssh; ");
    }
    needs.needs_newer.iter().for_each(|newer| {
        write!(line, "newer {} at {}; ", newer.feature, newer.place.line).unwrap();
    });
    line.trim_end_matches("; ").to_owned()
}

/// Each case is a Dockerfile, the settings of the build, and what is read.
fn check(cases: &[(&str, &str, &str)]) {
    let wrong: Vec<String> = cases
        .iter()
        .map(|(text, settings, expected)| (text, settings, expected, summary(text, settings)))
        .filter(|(_, _, expected, found)| *expected != found)
        .map(|(text, settings, expected, found)| {
            format!("{text:?} [{settings}]\n  expected {expected}\n  found    {found}")
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn f_d1_from_lines_give_the_right_edges() {
    check(&[
        ("FROM a", "", "FROM a"),
        ("from a as b", "", "FROM a"),
        ("FROM scratch", "", "scratch"),
        ("FROM SCRATCH", "", "FROM SCRATCH"),
        ("ARG B=a\nFROM $B", "", "FROM a"),
        ("ARG B=a\nFROM $B", "B=c", "FROM c"),
        ("ARG R=q\nARG O=j\nARG B=$R/$O/x\nFROM $B", "", "FROM q/j/x"),
        ("ARG R=q\nARG O=j\nARG B=$R/$O/x\nFROM $B", "R=g", "FROM g/j/x"),
        ("ARG R=q B=$R/x\nFROM ${B}", "", "FROM q/x"),
        ("FROM ${B:-y}", "", "FROM y"),
        ("FROM ${B:-y}", "B=z", "FROM y"),
        ("ARG B\nFROM ${B:-y}", "B=z", "FROM z"),
        ("ARG B=\nFROM ${B:-y}", "", "FROM y"),
        ("ARG T\nFROM a${T:+:}${T:+x}", "", "FROM a"),
        ("ARG T=1\nFROM a${T:+:$T}", "", "FROM a:1"),
        ("ARG T=\nFROM a${T-x}b", "", "FROM ab; newer ${T-…} at 2"),
        ("ARG T=\nFROM a${T+x}", "", "FROM ax; newer ${T+…} at 2"),
        ("ARG T=1.2.3\nFROM a:${T%.*}", "", "FROM a:1.2; newer ${T%…} at 2"),
        ("ARG T=1.2.3\nFROM a:${T%%.*}", "", "FROM a:1; newer ${T%…} at 2"),
        ("ARG T=1.2.3\nFROM a:${T#*.}", "", "FROM a:2.3; newer ${T#…} at 2"),
        ("ARG T=1.2.3\nFROM a:${T##*.}", "", "FROM a:3; newer ${T#…} at 2"),
        ("ARG T=1.2.3\nFROM a:${T//./-}", "", "FROM a:1-2-3; newer ${T/…} at 2"),
        ("ARG T=1.2.3\nFROM a:${T/./-}", "", "FROM a:1-2.3; newer ${T/…} at 2"),
        ("ARG A=x\nARG B=${A:-${C:-z}}\nFROM $B", "", "FROM x"),
        ("ARG B='a'\nFROM \"$B\"", "", "FROM a"),
        ("ARG B=a\nFROM x\\$B", "", "FROM x$B"),
        ("ARG B=a\nFROM $B AS b\nFROM b", "", "FROM a"),
        ("FROM a AS Base\nFROM bASE", "", "FROM a"),
        ("FROM a AS b\nFROM c\nCOPY --from=b /x /", "", "from a; FROM c"),
        ("FROM a AS b\nFROM c\nCOPY --from=0 /x /", "", "from a; FROM c"),
        ("FROM a\nFROM 0", "", "FROM 0"),
        ("FROM a AS b\nFROM c", "", "FROM c"),
        ("FROM a AS b\nFROM c AS d\nFROM b", "target=d", "FROM c"),
        ("FROM a AS b\nFROM c AS d\nFROM b", "target=B", "FROM a"),
        ("FROM x AS x\nFROM x", "", "FROM x"),
        ("FROM a AS scratch\nFROM scratch", "", "FROM a"),
        ("FROM a AS b\nFROM c AS b\nFROM b", "", "FROM c"),
        ("FROM --platform=$BUILDPLATFORM a", "", "FROM a on linux/amd64"),
        ("FROM --platform=$TARGETPLATFORM a", "platform=linux/arm/v7", "FROM a on linux/arm/v7"),
        ("FROM --platform=linux/arm64 a AS b\nFROM b", "", "FROM a on linux/arm64"),
        ("FROM a-$TARGETARCH$TARGETVARIANT", "platform=linux/arm/v7", "FROM a-armv7"),
        ("ARG TARGETARCH\nFROM a-$TARGETARCH", "", "FROM a-amd64"),
        ("FROM base-$TARGETSTAGE AS x", "", "FROM base-x"),
        ("FROM a@sha256:00", "", "FROM a@sha256:00"),
        ("ARG B=a\nFROM s AS t\nARG B=z\nFROM $B", "", "FROM a"),
    ]);
}

#[test]
fn f_d1_wrong_from_lines_are_named() {
    check(&[
        ("FROM $B", "", "error Dockerfile:1:6: `FROM $B` names no image: `B` is declared nowhere"),
        (
            "FROM s\nARG B=1\nFROM $B",
            "",
            "error Dockerfile:3:6: `FROM $B` names no image: `B` has no value before the first `FROM`",
        ),
        ("FROM a b", "", "error Dockerfile:1:1: `FROM` takes an image, or an image, `AS` and a name"),
        ("FROM a AS 0", "", "error Dockerfile:1:11: `0` cannot be the name of a stage"),
        (
            "FROM ${A",
            "",
            "error Dockerfile:1:6: `FROM ${A` cannot be expanded: the closing `}` of `${` is missing",
        ),
        ("FROM ${A:?no}", "", "error Dockerfile:1:6: `FROM ${A:?no}` cannot be expanded: `A`: no"),
        ("FROM --platform=linx a", "", "error Dockerfile:1:17: `linx` is no platform"),
        (
            "FROM --platform=$P a",
            "",
            "error Dockerfile:1:17: `--platform=$P` names no platform: `P` is declared nowhere",
        ),
        ("FROM a AS b", "target=x", "error Dockerfile: the Dockerfile has no stage `x`"),
        (
            "FROM a AS b\nCOPY --from=b / /",
            "",
            "error Dockerfile:2:13: stage `b` is not finished where this stage reads from it",
        ),
        ("FROM a\nCOPY --from=7 / /", "", "error Dockerfile:2:13: there is no stage 7: the Dockerfile has 1"),
    ]);
    let problems = build("FROM a AS one\nFROM a AS two", "target=tow").unwrap_err();
    assert_eq!(problems.iter().next().unwrap().hints, ["did you mean `two`? its stages are: one, two"]);
}

#[test]
fn f_d2_directives_come_first_or_not_at_all() {
    let syntax = |text: &str| {
        Dockerfile::parse(Path::new("Dockerfile"), text)
            .unwrap()
            .syntax()
            .map(|found| (found.text, found.place.line))
    };
    let found = |text: &str, line| Some((text.to_owned(), line));
    assert_eq!(syntax("# syntax=docker/dockerfile:1\nFROM a"), found("docker/dockerfile:1", 1));
    assert_eq!(syntax("\u{feff}#SYNTAX = x/y:1 option\r\nFROM a"), found("x/y:1", 1));
    assert_eq!(syntax("# escape=`\n# check=skip=all\n# syntax=a\nFROM a"), found("a", 3));
    assert_eq!(syntax("#!/usr/bin/env x\n# syntax=a\nFROM a"), found("a", 2));
    assert_eq!(syntax("\n# syntax=a\nFROM a"), None);
    assert_eq!(syntax("# a comment\n# syntax=a\nFROM a"), None);
    assert_eq!(syntax("# other=1\n# syntax=a\nFROM a"), None);
    check(&[
        ("# escape=`\nFROM a\nCOPY `\n  x /", "", "FROM a; read x"),
        ("# Escape = `\nFROM a\nCOPY c:\\x /", "", "FROM a; read c:\\x"),
        ("# a comment\n# escape=`\nFROM a\nCOPY \\\n  x /", "", "FROM a; read x"),
        ("# escape=x\nFROM a", "", "error Dockerfile:1:10: `x` cannot be the escape character"),
        ("# escape=`\n# escape=`\nFROM a", "", "error Dockerfile:2:1: the directive `escape` is given twice"),
    ]);
}

#[test]
fn f_d3_lines_are_joined_and_heredocs_passed_over() {
    check(&[
        ("FROM \\\n  a", "", "FROM a"),
        ("FROM \\\r\n  a\r\n", "", "FROM a"),
        ("\u{feff}FROM a\r\nCOPY x /\r\n", "", "FROM a; read x"),
        ("FROM a\nCOPY \\\n# a comment\n\n   # another\n  x \\ \n y /z", "", "FROM a; read x y"),
        ("FROM a\\", "", "FROM a"),
        ("FROM a\nRUN x \\", "", "FROM a"),
        ("FROM a\nRUN x \\\\\nCOPY y /", "", "FROM a; read y"),
        ("\t FROM\ta", "", "FROM a"),
        ("FROM a\nRUN <<EOF\nFROM b\nCOPY x /\nEOF\nCOPY y /", "", "FROM a; read y; newer heredoc at 2"),
        ("FROM a\nRUN <<-\"EOF\"\n\tCOPY x /\n\tEOF\nCOPY y /", "", "FROM a; read y; newer heredoc at 2"),
        ("FROM a\nRUN <<A cat <<B\nx\nA\ny\nB\nCOPY y /", "", "FROM a; read y; newer heredoc at 2"),
        (
            "FROM a\nCOPY x <<E <<F /d/\nx\nE\ny\nF\nCOPY y /",
            "",
            "FROM a; read x; read y; newer heredoc at 2",
        ),
        ("FROM a\nRUN echo $((1<<2)) '<<X'\nCOPY y /", "", "FROM a; read y"),
        ("FROM a\nRUN cat <<<word\nCOPY y /", "", "FROM a; read y"),
        ("FROM a\nRUN [\"cat\", \"<<E\"]\nCOPY y /", "", "FROM a; read y"),
        ("FROM a\nRUN <<E\nx\n", "", "error Dockerfile:2:1: the heredoc `<<E` has no end"),
        (
            "FROM a\nONBUILD RUN <<E\nCOPY x /\nE\n",
            "",
            "FROM a; trigger \"RUN <<E\\nCOPY x /\\nE\"; newer heredoc at 2",
        ),
    ]);
}

#[test]
fn f_d4_a_value_is_a_value() {
    let reason = "an argument is a value, not more of the Dockerfile: `B`";
    check(&[
        (
            "ARG B=a\nFROM $B",
            "B=x AS y",
            &format!("error Dockerfile:2:6: `FROM $B` is \"x AS y\", which is no image: {reason}"),
        ),
        (
            "ARG B=a\nFROM $B",
            "B=x\nRUN evil",
            &format!("error Dockerfile:2:6: `FROM $B` is \"x\\nRUN evil\", which is no image: {reason}"),
        ),
        (
            "ARG B=a\nFROM $B",
            "B=--mount",
            &format!("error Dockerfile:2:6: `FROM $B` is \"--mount\", which is no image: {reason}"),
        ),
        ("ARG B=a\nFROM x$B", "B=@sha256:00", "FROM x@sha256:00"),
        ("ARG B=a\nFROM $B", "B=$C", "FROM $C"),
        ("FROM a\nARG S=x\nCOPY $S /", "S=p q", "FROM a; read p q"),
    ]);
}

#[test]
fn f_d8_other_images_are_found_wherever_they_are_read() {
    check(&[
        ("FROM a\nCOPY --from=b /x /", "", "FROM a; copy b"),
        ("FROM a\nCOPY --chown=1:1 --from=b:1@sha256:0 /x /", "", "FROM a; copy b:1@sha256:0"),
        ("FROM a\nCOPY --from=\"b\" [\"/x y\", \"/\"]", "", "FROM a; copy b"),
        ("FROM a\nCOPY --from=scratch /x /", "", "FROM a"),
        ("FROM a\nRUN --mount=type=bind,from=b,target=/b x", "", "FROM a; mount b"),
        (
            "FROM a\nRUN --mount=from=b,target=/b \\\n --mount=from=c,target=/c x",
            "",
            "FROM a; mount b; mount c",
        ),
        ("FROM a\nRUN --mount=\"type=bind\",\"from=b\",target=/b x", "", "FROM a; mount b"),
        ("FROM a\nRUN --mount=type=cache,from=b,target=/b x", "", "FROM a; mount b"),
        ("FROM b AS c\nFROM a\nRUN --mount=from=C,target=/b x", "", "from b; FROM a"),
        ("FROM a AS x\nCOPY --from=b / /\nFROM c", "", "FROM c"),
        ("FROM a\nONBUILD COPY --from=b /x /", "", "FROM a; onbuild b; trigger \"COPY --from=b /x /\""),
        ("FROM a AS x\nONBUILD COPY --from=b y /\nFROM x", "", "FROM a; copy b"),
        ("FROM a AS x\nONBUILD COPY y /\nFROM x", "", "FROM a; read y"),
        (
            "ARG B=b\nFROM a\nCOPY --from=$B /x /",
            "",
            "error Dockerfile:3:13: `from=$B` has a variable, which BuildKit does not put in here",
        ),
    ]);
}

#[test]
fn f_d9_triggers_are_kept_word_by_word() {
    check(&[
        (
            "FROM a\nONBUILD RUN x  y\nonbuild copy . /",
            "",
            "FROM a; trigger \"RUN x  y\"; trigger \"copy . /\"",
        ),
        (
            "FROM a\nONBUILD ONBUILD RUN x",
            "",
            "error Dockerfile:2:9: `ONBUILD` cannot be a trigger of `ONBUILD`",
        ),
        ("FROM a\nONBUILD FROM x", "", "error Dockerfile:2:9: `FROM` cannot be a trigger of `ONBUILD`"),
        ("FROM a AS b\nONBUILD RUN x\nFROM c", "", "FROM c"),
    ]);
}

#[test]
fn sources_are_what_the_context_must_hold() {
    check(&[
        ("FROM a\nCOPY x y/ z*.txt /d/", "", "FROM a; read x y/ z*.txt"),
        ("FROM a\nCOPY [\"a b\", \"/d\"]", "", "FROM a; read a b"),
        ("FROM a\nCOPY . /d", "", "FROM a; read . (all)"),
        ("FROM a\nCOPY / /d", "", "FROM a; read / (all)"),
        ("FROM a\nARG V=1\nCOPY x-$V /", "", "FROM a; read x-1"),
        ("FROM a\nARG V=1\nCOPY x-$V /", "V=2", "FROM a; read x-2"),
        ("ARG V=1\nFROM a\nCOPY x-$V /", "", "FROM a; read x-$V (all)"),
        ("ARG V=1\nFROM scratch\nCOPY x-$V /", "", "scratch; read x-"),
        ("ARG V=1\nFROM a\nARG V\nCOPY x-$V /", "", "FROM a; read x-1"),
        ("FROM a\nARG V=1\nENV V=2\nCOPY x-$V /", "", "FROM a; read x-2"),
        ("FROM a\nENV V 2 3\nCOPY [\"$V\", \"/\"]", "", "FROM a; read 2 3"),
        ("FROM a\nENV A=1 B=$A\nCOPY x$B /", "", "FROM a; read x$B (all)"),
        ("FROM a AS p\nENV V=2\nFROM p\nCOPY x-$V /", "", "FROM a; read x-2"),
        ("FROM a\nCOPY $HOME /", "", "FROM a; read $HOME (all)"),
        ("FROM a\nCOPY ${HOME:-x} /", "", "FROM a; read ${HOME:-x} (all)"),
        ("FROM a\nARG V=1\nCOPY ${V:-$HOME} /", "", "FROM a; read 1"),
        ("FROM a\nENV X=$HOME\nCOPY $X /", "", "FROM a; read $X (all)"),
        ("FROM a\nCOPY '$x' /", "", "FROM a; read $x"),
        ("FROM a\nADD x.tar /", "", "FROM a; read x.tar"),
        ("FROM a\nADD https://x/y /", "", "FROM a; Url https://x/y"),
        (
            "FROM a\nARG V=1\nADD --checksum=sha256:$V https://x/$V z /",
            "",
            "FROM a; Url https://x/1 sha256:1; read z; newer ADD --checksum at 3",
        ),
        (
            "FROM a\nADD https://x/y.git#v1 /",
            "",
            "FROM a; Git https://x/y.git#v1; newer ADD of a Git repository at 2",
        ),
        (
            "FROM a\nADD git@x:y/z.git /",
            "",
            "FROM a; Git git@x:y/z.git; ssh; newer ADD of a Git repository at 2",
        ),
        ("FROM a\nCOPY https://x/y /", "", "FROM a; read https://x/y"),
        ("FROM a\nRUN --mount=target=/s x", "", "FROM a; read / (all)"),
        ("FROM a\nRUN --mount=type=bind,source=s*,target=/s x", "", "FROM a; read s*"),
        ("FROM a\nRUN --mount=type=cache,target=/s x", "", "FROM a"),
        (
            "FROM a\nRUN --mount=type=$T,target=/s x",
            "",
            "FROM a; read / (all); newer RUN --mount with a variable or a quote in its type at 2",
        ),
        ("FROM a\nRUN --mount=type=secret,id=t --mount=type=ssh x", "", "FROM a; secret t; ssh"),
        ("FROM a\nRUN --mount=type=secret,target=/run/pw x", "", "FROM a; secret pw"),
        ("FROM a\nCOPY --link x /", "", "FROM a; read x; newer COPY --link at 2"),
        ("FROM a\nCOPY --chmod=755 x /", "", "FROM a; read x"),
        ("FROM a\nCOPY --chmod=u+x x /", "", "FROM a; read x; newer --chmod with letters at 2"),
        ("FROM a\nRUN --network=none x", "", "FROM a; newer RUN --network at 2"),
        (
            "FROM a\nCOPY --parents --exclude=*.o x /",
            "",
            "FROM a; read x; newer COPY --parents at 2; newer COPY --exclude at 2",
        ),
    ]);
    let (_, needs) = build("FROM a\nCOPY src/*.c /", "").unwrap();
    assert!(needs.sources[0].covers("src/a.c") && !needs.sources[0].covers("src/d/a.c"));
}

#[test]
fn f_c2_what_is_no_dockerfile_is_refused_with_its_place() {
    check(&[
        ("", "", "error Dockerfile: the Dockerfile has no `FROM`"),
        ("# only\n\n  # comments\n", "", "error Dockerfile: the Dockerfile has no `FROM`"),
        ("RUN x\nFROM a", "", "error Dockerfile:1:1: only `ARG` may stand before the first `FROM`"),
        (
            "FROM a\n  FORM b\nCOPPY x /\nCOPY x",
            "",
            "error Dockerfile:2:3: unknown instruction `FORM`; Dockerfile:3:1: unknown instruction `COPPY`; \
             Dockerfile:4:6: `COPY` takes at least a source and a destination",
        ),
        ("FROM a\nENV X", "", "error Dockerfile:2:5: `ENV` takes names with values"),
        ("FROM a\nENV A=1 B", "", "error Dockerfile:2:5: `ENV` takes names with values"),
        ("FROM a\nARG =1", "", "error Dockerfile:2:5: `ARG` has a value with no name"),
        ("FROM a\nRUN", "", "error Dockerfile:2:4: `RUN` runs nothing"),
        (
            "FROM a\nCOPY \"x y /",
            "",
            "error Dockerfile:2:1: `\"x` cannot be expanded: the closing `\"` is missing",
        ),
    ]);
    let problems = build("FROM a\nCOPPY x /", "").unwrap_err();
    assert_eq!(problems.iter().next().unwrap().hints, ["did you mean `COPY`?"]);
    let read =
        |bytes: &[u8]| Dockerfile::read_bytes(Path::new("D"), bytes).map_err(|problems| problems.to_string());
    assert_eq!(read("\u{feff}FROM a".as_bytes()).unwrap(), "\u{feff}FROM a");
    assert_eq!(read(b"FROM \xff").unwrap_err(), "D: the file is not UTF-8: invalid bytes at byte 5");
    assert_eq!(read(b"FROM a\0").unwrap_err(), "D: the file is not text: NUL at byte 6");
    assert!(read(b"\xff\xfeF\0").unwrap_err().contains("UTF-16"));
}

#[test]
fn the_arguments_that_matter_are_those_of_reached_stages() {
    let text = "ARG R=q\nARG B=$R/x\nARG U=u\nFROM $U AS unused\nARG N\nFROM $B\nARG L=1\nARG G\n";
    let (file, needs) = build(text, "").unwrap();
    let used: Vec<&str> = needs.uses_args.iter().map(String::as_str).collect();
    assert_eq!(used, ["B", "G", "L", "R"]);
    let declared: Vec<(String, usize)> =
        file.declared_args().into_iter().map(|arg| (arg.text, arg.place.line)).collect();
    let expected = [("R", 1), ("B", 2), ("U", 3), ("N", 5), ("L", 7), ("G", 8)];
    assert_eq!(declared, expected.map(|(name, line)| (name.to_owned(), line)));
}

/// The text with every reference `x` that is not kept replaced by `<x>`.
fn replaced(text: &str) -> String {
    let file = Dockerfile::parse(Path::new("Dockerfile"), text).unwrap();
    let (args, platform) =
        (BTreeMap::new(), BuildPlatform { os: "linux".into(), architecture: "s390x".into(), variant: None });
    let request = Request { target: None, args: &args, platform: &platform };
    let syntax = file.syntax().map(|written| format!("<{}>", written.text));
    let syntax = syntax.as_deref().filter(|_| !text.contains("kept"));
    let reference = |reference: &str| (reference != "kept").then(|| format!("<{reference}>"));
    let cache = |written: &str| Some(format!("[{written}]"));
    let remote = |remote: &Remote| Some(remote.git()?.ok()?.at("C"));
    file.with(
        &request,
        &Replacements { frontend: syntax, reference: &reference, cache: &cache, remote: &remote },
    )
}

#[test]
fn law_2_what_add_fetches_from_a_repository_is_sent_at_its_commit() {
    for (written, expected) in [
        ("ADD https://x/r.git#main:f /", "ADD https://x/r.git#C:f /"),
        ("ADD --link\ta https://x/r.git\tb /", "ADD --link\ta https://x/r.git#C\tb /"),
        ("ADD https://x/r.git#v$V /", "ADD https://x/r.git#C /"),
        ("ADD https://x/r\\\n.git#v1 /", "ADD https://x/r.git#C /"),
        (
            "ADD [\"git@x:r.git\", \"https://x/git@x:r.git\", \"/\"]",
            "ADD [\"git@x:r.git#C\", \"https://x/git@x:r.git#C\", \"/\"]",
        ),
        ("ADD https://x/r.git#$UNKNOWN /", "ADD https://x/r.git#$UNKNOWN /"),
        ("ADD --checksum=0123 https://x/r.git#main /", "ADD --checksum=0123 https://x/r.git#main /"),
        ("ADD https://x/r.tar /", "ADD https://x/r.tar /"),
        ("COPY https://x/r.git /", "COPY https://x/r.git /"),
    ] {
        let whole = |instruction: &str| format!("FROM kept\nARG V=1\n{instruction}\nRUN x\n");
        assert_eq!(replaced(&whole(written)), whole(expected));
    }
}

#[test]
fn tm10_every_cache_mount_gets_an_id_of_its_own() {
    for (mount, expected) in [
        ("type=cache,target=/x", "type=cache,id=[/x],target=/x"),
        ("type=Cache,dst=/x", "type=cache,id=[/x],dst=/x"),
        ("type=cache,id=uv,target=/x", "type=cache,id=[uv],target=/x"),
        ("type=cache,id=/a/../b,id=c,dst=/x", "type=cache,id=/a/../b,id=[c],dst=/x"),
        ("target=/x,id=uv-$TARGETARCH,type=cache", "target=/x,id=[uv-$TARGETARCH],type=cache"),
        ("type=cache,id=,target=x", "type=cache,id=[x],target=x"),
        ("type=cache,target=x,id=", "type=cache,target=x,id=[x]"),
        ("type=cache,target=x,id=\\\na", "type=cache,target=x,id=\\\n[a]"),
        ("type=cache,id=a\\\n# b\nc,target=x", "type=cache,id=[ac],target=x"),
        ("'type=cache',\"id=a b\",target=x", "'type=cache',\"id=[a b]\",target=x"),
        (
            "type=bind,type=cache,target=/x,sharing=locked",
            "type=bind,type=cache,id=[/x],target=/x,sharing=locked",
        ),
        ("type=cache,from=b,target=x", "type=cache,id=[x],from=<b>,target=x"),
        ("type=cache,type=bind,target=/x", "type=cache,type=bind,target=/x"),
        ("type=tmpfs,target=/x,id=uv", "type=tmpfs,target=/x,id=uv"),
        ("type=cache,ro", "type=cache,ro"),
    ] {
        let text = |mount: &str, from: &str| {
            format!(
                "FROM {from}\nRUN --mount={mount} --network=none --mount={mount} <<E\n--mount={mount}\nE\n"
            )
        };
        let sent = replaced(&text(mount, "a"));
        let kept = format!("<<E\n--mount={mount}\nE\n");
        assert!(sent.ends_with(&kept), "{sent}");
        let expected = text(expected, "<a>");
        let flags = |text: &str| text.split(" <<E").next().unwrap_or_default().to_owned();
        assert_eq!(flags(&sent), flags(&expected), "{mount}");
    }
    let escaped = "# escape=`\nFROM <a>\nRUN --mount=type=cache,target=/x,id=`\nb make\nONBUILD RUN --mount=type=cache,target=/x y\n";
    assert_eq!(replaced(&escaped.replace("<a>", "a")), escaped.replace("b make", "[b] make"));
}

#[test]
fn tm10_a_mount_that_may_be_a_cache_is_told_with_its_line() {
    for (kind, expected) in [
        ("cache", 0),
        ("bind", 0),
        ("$T", 1),
        ("${T:-cache}", 1),
        ("ca\\'\\'che", 1),
        ("\\\"cache\\\"", 1),
        ("ca\\\\che", 1),
    ] {
        let text = format!("FROM a\nRUN x\nRUN --mount=type=ssh --mount=type={kind},target=/x y\n");
        let (_, needs) = build(&text, "").unwrap();
        let lines: Vec<usize> = needs
            .needs_newer
            .iter()
            .filter(|newer| newer.feature == UNSETTLED_MOUNT)
            .map(|newer| newer.place.line)
            .collect();
        assert_eq!(lines, [3].repeat(expected), "{kind}");
    }
}

#[test]
fn references_are_replaced_and_every_other_byte_stays() {
    for (text, expected) in [
        ("FROM a", "FROM <a>"),
        (
            "\u{feff}#  syntax = x:1  y \r\nARG B=b\r\nFROM  q/${B}:1  AS z\r\n",
            "\u{feff}#  syntax = <x:1>  y \r\nARG B=b\r\nFROM  <q/b:1>  AS z\r\n",
        ),
        (
            "FROM --platform=$BUILDPLATFORM \\\n  # c\n  a\nFROM kept",
            "FROM --platform=$BUILDPLATFORM \\\n  # c\n  <a>\nFROM kept",
        ),
        (
            "FROM a AS b\nFROM b\nCOPY --from=b a c\nCOPY --from=a --chown=a a d",
            "FROM <a> AS b\nFROM b\nCOPY --from=b a c\nCOPY --from=<a> --chown=a a d",
        ),
        (
            "FROM scratch\nCOPY --from=scratch a b\nCOPY --from=\"é\" a b",
            "FROM scratch\nCOPY --from=scratch a b\nCOPY --from=\"<é>\" a b",
        ),
        (
            "FROM k\nRUN --mount=type=bind,\"from=é\",target=/a \\\n  --mount=from=c,ro a",
            "FROM <k>\nRUN --mount=type=bind,\"from=<é>\",target=/a \\\n  --mount=from=<c>,ro a",
        ),
        (
            "FROM k\nRUN <<E\nFROM a\nE\nONBUILD COPY --from=a a b",
            "FROM <k>\nRUN <<E\nFROM a\nE\nONBUILD COPY --from=a a b",
        ),
        ("FROM a\\\nb\\\nc", "FROM <abc>"),
        ("# syntax=kept\nFROM a", "# syntax=kept\nFROM <a>"),
    ] {
        assert_eq!(replaced(text), expected);
    }
}

#[test]
fn f_d3_large_files_take_no_longer_than_their_size() {
    let long = format!("FROM a\nCOPY {} /\nRUN {}", "x ".repeat(200_000), "y ".repeat(500_000));
    build(&long, "").unwrap();
    let many: String = (0..10_000).map(|at| format!("COPY f{at} /\nENV V{at}=$V{}\n", at / 2)).collect();
    build(&format!("FROM a\n{many}"), "").unwrap();
    let stages: String = (1..10_000).map(|at| format!("FROM s{} AS s{at}\nENV A=$A\n", at - 1)).collect();
    build(&format!("FROM scratch AS s0\n{stages}"), "").unwrap();
    let joined = format!("FROM a\nRUN {}x", "x \\\n".repeat(100_000));
    build(&joined, "").unwrap();
    let mounts = format!("FROM a\nRUN {} x", "--mount=from=b,target=/b ".repeat(20_000));
    build(&mounts, "").unwrap();
    let doubling: String = (1..60).map(|at| format!("ARG A{at}=$A{0}$A{0}\n", at - 1)).collect();
    assert!(summary(&format!("ARG A0=aaaa\n{doubling}FROM a"), "").contains("expands to more than 64 KiB"));
    let nested = format!("FROM {}x", "${a:-".repeat(200_000));
    assert!(summary(&nested, "").starts_with("error"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn f_d3_no_text_panics_and_nothing_is_lost(text in "(FROM |COPY |RUN |ARG |ENV |ADD |ONBUILD |--from=|--mount=|from=|<<E|E\n|a|b|é|\\$|\\{|\\}|:-|\"|'|\\\\|`|=|,|#|\\[|\\]|/|\n|\r\n| |\t|\u{feff}|AS |# escape=`\n|# syntax=x\n){0,60}") {
        if let Ok((file, _)) = build(&text, "a=1") {
            let args = BTreeMap::new();
            let platform = BuildPlatform { os: "linux".into(), architecture: "amd64".into(), variant: None };
            let request = Request { target: None, args: &args, platform: &platform };
            let nothing = Replacements { frontend: None, reference: &|_| None, cache: &|_| None, remote: &|_| None };
            prop_assert_eq!(file.with(&request, &nothing), text.clone());
        }
    }

    #[test]
    fn f_d3_no_characters_panic(text in "\\PC{0,80}", value in "\\PC{0,20}") {
        let _ = build(&text, "");
        let _ = build(&format!("ARG A\nFROM $A AS b\nCOPY --from={text} {text}\nRUN {text}"), &format!("A={value}"));
    }
}
