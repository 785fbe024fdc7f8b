//! Tables of what is joined and tagged, and publications cut off at every call of their stores.

mod promoted;

use std::collections::BTreeMap;
use std::sync::Mutex;

use expect_test::{Expect, expect};
use futures_util::FutureExt;

use super::fixture::{AMD, ARM, Fixture, SCOPE, facts, homes, publisher};
use super::journal::RESERVED_TAG;
use super::release::Release;
use super::*;
use crate::diag::{Diagnostic, Kind, Problems, Result};
use crate::event::EventKind;
use crate::family::{Divergence, JobId};
use crate::oci::watched::{Failure, Watched};
use crate::oci::{Digest, MediaType, Memory, Pointer, Repository, Store, Tag};

/// Every tag with what it points at, then what is withheld.
fn picture(release: &Release) -> String {
    let mut text = String::new();
    for image in &release.images {
        for (tag, digest) in &image.tags {
            let platform = image.platforms.iter().find(|(_, platform)| platform.manifest.digest == *digest);
            let partial = image.partial.iter().any(|index| index.digest() == digest);
            let what = match platform {
                Some((platform, _)) => platform.to_string(),
                None if partial => "some platforms".to_owned(),
                None if image.index.digest() == digest => "index".to_owned(),
                None => "nothing".to_owned(),
            };
            text.push_str(&format!("{}:{tag} -> {what}\n", image.repository));
        }
    }
    for tag in &release.tags_withheld {
        text.push_str(&format!("withheld {}:{}: {}\n", tag.repository, tag.tag, tag.reason));
    }
    for image in &release.withheld {
        text.push_str(&format!("withheld {}: {}\n", image.unit, image.reason));
    }
    text
}

fn check(release: &Release, expected: &Expect) {
    expected.assert_eq(&picture(release));
}

fn wrong(result: Result<Release>) -> Problems {
    result.expect_err("it was taken")
}

#[tokio::test]
async fn a_release_leaves_the_tags_of_taggers_where_they_are() {
    let mut fixture = Fixture::new(Divergence::Withhold)
        .image("base", None, &[(AMD, Some("python-3.13.5")), (ARM, Some("python-3.12.0"))])
        .await;
    fixture.family.tags.is_release = true;
    check(
        &fixture.assemble().expect("release"),
        &expect![[r#"
            o/base:amd64-latest -> linux/amd64
            o/base:arm64-latest -> linux/arm64
            o/base:latest -> index
        "#]],
    );
}

#[tokio::test]
async fn tags_are_made_of_platform_variant_and_value() {
    let fixture = Fixture::new(Divergence::Withhold)
        .image("base", None, &[(AMD, Some("python-3.13.5")), (ARM, Some("python-3.13.5"))])
        .await
        .image("base:cuda", None, &[(AMD, Some("python-3.13.5"))])
        .await;
    check(
        &fixture.assemble().expect("release"),
        &expect![[r#"
            o/base:amd64-latest -> linux/amd64
            o/base:amd64-python-3.13.5 -> linux/amd64
            o/base:arm64-latest -> linux/arm64
            o/base:arm64-python-3.13.5 -> linux/arm64
            o/base:latest -> index
            o/base:python-3.13.5 -> index
            o/base:amd64-cuda-latest -> linux/amd64
            o/base:amd64-cuda-python-3.13.5 -> linux/amd64
            o/base:cuda-latest -> index
            o/base:cuda-python-3.13.5 -> index
        "#]],
    );
}

#[tokio::test]
async fn f_c13_a_tag_that_differs_follows_the_stated_policy() {
    let family = async |divergence| {
        Fixture::new(divergence).image("base", None, &[(AMD, Some("py-5")), (ARM, Some("py-6"))]).await
    };
    check(
        &family(Divergence::Withhold).await.assemble().expect("release"),
        &expect![[r#"
            o/base:amd64-latest -> linux/amd64
            o/base:amd64-py-5 -> linux/amd64
            o/base:arm64-latest -> linux/arm64
            o/base:arm64-py-6 -> linux/arm64
            o/base:latest -> index
            withheld o/base:py-5: linux/amd64 made it; linux/arm64 made `py-6`
            withheld o/base:py-6: linux/arm64 made it; linux/amd64 made `py-5`
        "#]],
    );
    check(
        &family(Divergence::Partial).await.assemble().expect("release"),
        &expect![[r#"
            o/base:amd64-latest -> linux/amd64
            o/base:amd64-py-5 -> linux/amd64
            o/base:arm64-latest -> linux/arm64
            o/base:arm64-py-6 -> linux/arm64
            o/base:latest -> index
            o/base:py-5 -> some platforms
            o/base:py-6 -> some platforms
        "#]],
    );
    let problems = wrong(family(Divergence::Fail).await.assemble());
    assert_eq!((problems.exit_code(), problems.iter().count()), (4, 2));
}

#[tokio::test]
async fn i_p1_an_image_without_all_its_platforms_is_withheld_and_so_are_its_children() {
    let fixture = Fixture::new(Divergence::Withhold)
        .image("base", None, &[(AMD, Some("v1")), (ARM, None)])
        .await
        .image("leaf", Some("base"), &[(AMD, Some("v1"))])
        .await
        .image("other", None, &[(AMD, Some("v1"))])
        .await;
    check(
        &fixture.assemble().expect("release"),
        &expect![[r#"
            o/other:amd64-latest -> linux/amd64
            o/other:amd64-v1 -> linux/amd64
            o/other:latest -> index
            o/other:v1 -> index
            withheld base: linux/arm64 has not passed
            withheld leaf: it was built from `base`, which is withheld
        "#]],
    );
}

#[tokio::test]
async fn all_tags_that_want_a_commit_where_there_is_none_are_told_of_together() {
    let warnings = async |fixture: Fixture| {
        let planned = fixture.planned();
        let chosen = fixture.family.order.iter().cloned().collect();
        let facts = RunFacts { commit: None, ..facts() };
        let release = assemble(&fixture.family, &chosen, &planned, &fixture.passed, &facts).expect("release");
        release.warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let commit = |mut fixture: Fixture, templates: &[&str]| {
        let common = templates.iter().map(|template| (*template).to_owned());
        fixture.family.recipes.values_mut().for_each(|recipe| recipe.common_tags.extend(common.clone()));
        fixture
    };
    assert_eq!(warnings(pair().await).await, Vec::<String>::new());
    let why = "there is no commit: the family's files are in no Git repository";
    let several = warnings(commit(pair().await, &["{commit}", "a-{commit}"])).await;
    assert_eq!(several, [format!("tags `a-{{commit}}`, `{{commit}}` of 2 images are left out: {why}")]);
    let one = Fixture::new(Divergence::Withhold).image("base", None, &[(AMD, Some("v1"))]).await;
    let one = warnings(commit(one, &["{commit}"])).await;
    assert_eq!(one, [format!("tag `{{commit}}` of `base` is left out: {why}")]);
}

#[tokio::test]
async fn the_totals_count_every_blob_once() {
    let fixture = pair().await;
    let scope: Repository = SCOPE.parse().expect("scope");
    let source = Source { store: &fixture.store, repository: &scope, home: None };
    let release = fixture.assemble().expect("release");
    let publication = Publication::prepare(release, &homes(), &source).await.expect("publication");
    let target = Watched::new(Memory::new());
    let published = fixture.publish(&target).await.expect("published");
    let writes = content(&target.writes());
    let count = |word: &str| writes.iter().filter(|write| write.starts_with(word)).count();
    let totals = Publication::totals(&[publication]);
    assert_eq!((totals.images, totals.platforms, totals.tags), (2, 2, published.tags));
    assert_eq!((totals.blobs, totals.bytes), (count("blob"), published.bytes));
    assert_eq!((totals.manifests, totals.indexes), (count("manifest"), count("index")));
}

#[tokio::test]
async fn i_p1_what_was_not_selected_has_not_failed() {
    let s390x = "linux/s390x";
    let reason = async |made: &[(&str, Option<&str>)]| {
        let fixture = Fixture::new(Divergence::Withhold).image("base", None, made).await;
        fixture.assemble().expect("release").withheld.first().map(|withheld| withheld.reason.clone())
    };
    let both = reason(&[(AMD, Some("v1")), (ARM, None), (s390x, None)]).await;
    assert_eq!(
        both.as_deref(),
        Some("linux/arm64 has not passed; linux/s390x was not selected and no record stands for it")
    );
    let stands = reason(&[(AMD, Some("v1")), (s390x, Some("v1"))]).await;
    assert_eq!(stands, None, "a record of what was not selected is as good as any");
}

#[tokio::test]
async fn i_p5_a_child_of_another_image_than_the_published_parent_is_withheld() {
    let mut fixture = Fixture::new(Divergence::Withhold)
        .image("base", None, &[(AMD, Some("v1"))])
        .await
        .image("leaf", Some("base"), &[(AMD, Some("v1"))])
        .await;
    assert_eq!(fixture.assemble().expect("release").images.len(), 2);
    let job: JobId = "leaf@linux/amd64".parse().expect("job");
    let record = fixture.passed.get_mut(&job).expect("leaf");
    record.image.parents.insert("base".to_owned(), Digest::of(b"an older base"));
    let release = fixture.assemble().expect("release");
    assert_eq!(release.images.len(), 1);
    assert!(release.withheld[0].reason.contains("was built from another `base`"), "{:?}", release.withheld);
}

#[tokio::test]
async fn i_p6_an_index_is_made_of_its_platforms_alone() {
    let index = async |order: [&str; 2], date: &str| {
        let made = order.map(|platform| (platform, Some("v1")));
        let fixture = Fixture::new(Divergence::Withhold).image("base", None, &made).await;
        let chosen = fixture.family.order.iter().cloned().collect();
        let facts = RunFacts { date: date.to_owned(), commit: None };
        let release =
            assemble(&fixture.family, &chosen, &fixture.planned(), &fixture.passed, &facts).expect("release");
        release.images[0].index.bytes().clone()
    };
    let first = index([AMD, ARM], "2026-11-21").await;
    assert_eq!(first, index([ARM, AMD], "2027-01-01").await);
    let text = String::from_utf8(first.to_vec()).expect("JSON");
    assert!(text.contains(MediaType::INDEX) && !text.contains("annotations"), "{text}");
    assert!(text.find("amd64") < text.find("arm64"), "{text}");
}

#[tokio::test]
async fn f_c11_f_c13_a_value_that_is_no_tag_names_its_tagger() {
    for (value, part) in [("", "made nothing"), ("a b", "made `a b`"), ("-x", "made `-x`")] {
        let fixture = Fixture::new(Divergence::Withhold).image("base", None, &[(AMD, Some(value))]).await;
        let text = wrong(fixture.assemble()).to_string();
        let named = text.contains("tagger `python-{0}`") && text.contains("`base@linux/amd64`");
        assert!(named && text.contains(part), "{text}");
    }
    let long = "t".repeat(125);
    let fixture = Fixture::new(Divergence::Withhold).image("base", None, &[(AMD, Some(&long))]).await;
    assert!(wrong(fixture.assemble()).to_string().contains("more than 128 characters"));
}

#[tokio::test]
async fn f_c13_a_common_tag_of_an_unknown_value_is_refused() {
    let mut fixture = Fixture::new(Divergence::Withhold).image("base", None, &[(AMD, Some("v1"))]).await;
    let unit = fixture.family.order[0].clone();
    let mut set = |template: &str| {
        let recipe = fixture.family.recipes.get_mut(&unit).expect("base");
        recipe.common_tags = vec![template.to_owned()];
        fixture.assemble()
    };
    assert!(wrong(set("{comit}")).to_string().contains("unknown value `comit`"));
    assert!(wrong(set("")).to_string().contains("makes no tag"));
    let release = set("{date}-{commit}").expect("release");
    assert!(picture(&release).contains("o/base:2026-11-21-0123456789ab -> index"), "{}", picture(&release));
}

#[tokio::test]
async fn f_c12_two_images_with_one_public_tag_are_both_named() {
    let mut fixture = Fixture::new(Divergence::Withhold)
        .image("base", None, &[(AMD, Some("v1"))])
        .await
        .image("leaf", None, &[(AMD, Some("v1"))])
        .await;
    let leaf = fixture.family.order[1].clone();
    fixture.family.recipes.get_mut(&leaf).expect("leaf").repository = "o/base".parse().expect("repository");
    let text = wrong(fixture.assemble()).to_string();
    assert!(text.contains("`base` and `leaf` both make the tag `o/base:latest`"), "{text}");

    let mut fixture =
        Fixture::new(Divergence::Withhold).image("base", None, &[(AMD, Some("v1")), (ARM, Some("v1"))]).await;
    fixture.family.tags.platform = "{tag}".to_owned();
    let text = wrong(fixture.assemble()).to_string();
    assert!(text.contains("`base@linux/amd64` and `base@linux/arm64` both make"), "{text}");
}

/// A family with a parent and a child on two platforms.
async fn pair() -> Fixture {
    Fixture::new(Divergence::Withhold)
        .image("base", None, &[(AMD, Some("v1")), (ARM, Some("v1"))])
        .await
        .image("leaf", Some("base"), &[(AMD, Some("v2")), (ARM, Some("v2"))])
        .await
}

#[tokio::test]
async fn content_goes_first_in_the_order_of_what_refers_to_what_and_tags_go_last() {
    let fixture = pair().await;
    let target = Watched::new(Memory::new());
    let published = fixture.publish(&target).await.expect("published");
    assert_eq!((published.tags, published.tags_moved), (12, 12));
    let all = target.writes();
    let opened = all.iter().position(|write| write.contains(RESERVED_TAG)).expect("a journal");
    assert!(all[opened..].iter().all(|write| write.starts_with("tag")), "{all:#?}");
    assert!(
        all.last().is_some_and(|write| write.contains(RESERVED_TAG)),
        "it is said that it ended: {all:#?}"
    );
    let writes = content(&all);
    let rank = |write: &String| match write.split(' ').next() {
        Some("blob") => 0,
        Some("mount") => 1,
        Some("manifest") => 2,
        Some("index") => 3,
        _ => 4,
    };
    assert!(writes.is_sorted_by_key(rank), "{writes:#?}");
    let count = |word: &str| writes.iter().filter(|write| write.starts_with(word)).count();
    // The leaf's lower layers are the base's own, so they are mounted and not sent again.
    assert_eq!((count("mount o/leaf"), count("index"), count("manifest")), (2, 2, 4), "{writes:#?}");

    let again = Watched::new(target);
    let published = fixture.publish(&again).await.expect("published again");
    assert_eq!((published.bytes, published.tags_moved), (0, 0));
    assert_eq!(again.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn within_one_store_no_byte_moves() {
    let fixture = pair().await;
    let scope: Repository = SCOPE.parse().expect("scope");
    let target = Watched::new(fixture.store.clone());
    let source = Source { store: &fixture.store, repository: &scope, home: Some(scope.clone()) };
    let publication = Publication::prepare(fixture.assemble().expect("release"), &homes(), &source)
        .await
        .expect("publication");
    let events = Mutex::new(Vec::new());
    let listener = |event: EventKind| events.lock().expect("events").push(event);
    let published = publication
        .carry_out(
            &source,
            Target { store: &target, fresh: &target, registry: "r.io" },
            &publisher(1),
            std::future::pending(),
            &listener,
        )
        .await
        .expect("published");
    assert_eq!(published.bytes, 0);
    let writes = content(&target.writes());
    assert!(!writes.iter().any(|write| write.starts_with("blob")), "{writes:#?}");
    let events = events.into_inner().expect("events");
    assert!(matches!(events.first(), Some(EventKind::PublishStarted { images: 2, tags: 12, .. })));
    assert!(matches!(events.last(), Some(EventKind::Published { tags: 12 })));
    let told =
        events.iter().filter(|event| matches!(event, EventKind::TagPublished { moved: true, .. })).count();
    assert_eq!(told, 12);
}

/// What was written before the journal, which is one blob with an empty configuration.
fn content(writes: &[String]) -> Vec<String> {
    let opened = writes.iter().position(|write| write.contains(RESERVED_TAG)).expect("a journal");
    let (content, journal) = writes[..opened].split_at(opened - 2);
    assert_eq!(journal, ["blob o/base", "blob o/base"]);
    content.to_vec()
}

/// What must hold at a target at every moment: all that can be reached from a tag is there, on all platforms.
async fn assert_whole(target: &Memory, at: &str) {
    for repository in target.repositories(None, 100).await.expect("repositories") {
        for tag in target.tags(&repository, None, 100).await.expect("tags") {
            let document = target.read_document(&repository, &Pointer::Tag(tag.clone())).await.expect(at);
            let manifests = match document.is_index() {
                false => vec![document],
                true => {
                    let index = document.index().expect("index");
                    assert_eq!(index.manifests.len(), 2, "{at}: {repository}:{tag} is incomplete");
                    let mut manifests = Vec::new();
                    for entry in index.manifests {
                        let pointer = Pointer::Digest(entry.digest);
                        manifests.push(target.read_document(&repository, &pointer).await.expect(at));
                    }
                    manifests
                }
            };
            for manifest in manifests.iter().map(|document| document.manifest().expect("manifest")) {
                for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
                    let size = target.blob_size(&repository, &blob.digest).await.expect(at);
                    assert_eq!(size, Some(blob.size), "{at}: {repository}:{tag} lacks {}", blob.digest);
                }
            }
        }
    }
}

async fn tags_of(target: &Memory) -> BTreeMap<String, Digest> {
    let mut all = BTreeMap::new();
    for repository in target.repositories(None, 100).await.expect("repositories") {
        for tag in target.tags(&repository, None, 100).await.expect("tags") {
            if tag.as_str() == RESERVED_TAG {
                continue;
            }
            let found = target.resolve(&repository, &Pointer::Tag(tag.clone())).await.expect("tag");
            all.insert(format!("{repository}:{tag}"), found.expect("tag").digest);
        }
    }
    all
}

#[tokio::test]
async fn i_p1_i_p2_i_p8_i_p9_i_p10_f_p1_cut_off_at_every_call_the_same_command_completes_it() {
    let fixture = pair().await;
    let whole = Watched::new(Memory::new());
    fixture.publish(&whole).await.expect("published");
    let calls = whole.calls();
    let reference = Memory::new();
    fixture.publish(&reference).await.expect("published");
    let expected = tags_of(&reference).await;
    assert!(calls > 60, "{calls} calls: the sweep must see every phase");

    let again = "run the same command again: it does what is missing".to_owned();
    let mut while_brought = 0;
    for failure in [Failure::Before, Failure::After] {
        for at in 0..calls {
            let name = format!("cut off {failure:?} call {at}");
            let target = Memory::new();
            let watched = Watched::failing(target.clone(), at, failure);
            let problems = fixture.publish(&watched).await.expect_err(&name);
            let tagged = tags_of(&target).await;
            let Diagnostic { kind, message, hints, .. } = problems.iter().next().expect("a problem");
            if message.starts_with("cannot bring ") {
                assert!(hints.contains(&again), "{name}: {problems}");
                while_brought += 1;
            }
            match tagged.is_empty() {
                true => assert!(matches!(kind, Kind::Surroundings | Kind::Incomplete), "{name}: {problems}"),
                false => assert_eq!(*kind, Kind::Incomplete, "{name}: {problems}"),
            }
            for (tag, digest) in &tagged {
                assert_eq!(Some(digest), expected.get(tag), "{name}: {tag}");
            }
            assert_whole(&target, &name).await;
            fixture.publish(&target).await.expect(&name);
            assert_eq!(tags_of(&target).await, expected, "{name}");
            assert_whole(&target, &name).await;
            assert_eq!(fixture.differences(&target).await, Vec::<String>::new(), "{name}");
        }
    }
    assert!(while_brought > 20, "{while_brought} times while content was brought");
}

#[tokio::test(start_paused = true)]
async fn f_p3_stopped_at_every_call_it_says_whether_tags_were_begun_and_the_same_command_completes_it() {
    let fixture = pair().await;
    let whole = Watched::new(Memory::new());
    fixture.publish(&whole).await.expect("published");
    let mut incomplete = 0;
    for at in 0..whole.calls() {
        let name = format!("stopped in call {at}");
        let target = Memory::new();
        let problems = fixture.publish_and_stop(target.clone(), at).await;
        match problems.exit_code() {
            130 => assert_eq!(tags_of(&target).await, BTreeMap::new(), "{name}: nothing public changed"),
            code => {
                assert_eq!(code, 5, "{name}: {problems}");
                let text = problems.to_string();
                assert!(text.contains("stopped by SIGINT") && text.contains("of 12 tags"), "{name}: {text}");
                incomplete += 1;
            }
        }
        assert_whole(&target, &name).await;
        fixture.publish(&target).await.expect(&name);
        assert_eq!(fixture.differences(&target).await, Vec::<String>::new(), "{name}");
    }
    // The tags are written by six requests and read back by twelve, and then the journal is ended.
    assert_eq!(incomplete, 19);
}

#[tokio::test]
async fn verify_names_every_difference_and_writes_nothing() {
    let fixture = pair().await;
    let target = Memory::new();
    fixture.publish(&target).await.expect("published");
    let repository: Repository = "o/base".parse().expect("repository");
    let tag = |text: &str| text.parse::<Tag>().expect("tag");
    target.remove_tag(&repository, &tag("v1")).await.expect("removed");
    let arm = target.read_document(&repository, &Pointer::Tag(tag("arm64-latest"))).await.expect("manifest");
    target.write_document(&repository, &arm, &[tag("latest")]).await.expect("moved");

    let watched = Watched::new(target);
    let found = fixture.differences(&watched).await;
    assert_eq!(watched.writes(), Vec::<String>::new());
    assert_eq!(found.len(), 4, "{found:#?}");
    assert!(found[0].starts_with("r.io/o/base latest: elsewhere, sha256:"), "{found:#?}");
    assert_eq!(found[1], "r.io/o/base latest linux/amd64: lacking, nothing for linux/amd64");
    assert_eq!(found[2], "r.io/o/base latest linux/arm64: lacking, nothing for linux/arm64");
    assert!(found[3].starts_with("r.io/o/base v1: missing, nothing for sha256:"), "{found:#?}");
}

#[tokio::test]
async fn verify_compares_configurations_sizes_and_content_with_what_names_them() {
    let fixture = pair().await;
    let (target, base): (_, Repository) = (Memory::new(), "o/base".parse().expect("repository"));
    fixture.publish(&target).await.expect("published");
    let release = fixture.assemble().expect("release");
    let mut index = release.images[0].index.index().expect("an index");
    let platforms: Vec<_> = index.manifests.iter().map(|one| one.platform.clone()).collect();
    // Under the tag stands an index that says of each image that it is for the other platform.
    index.manifests[0].platform.clone_from(&platforms[1]);
    index.manifests[1].platform.clone_from(&platforms[0]);
    let swapped = crate::oci::Document::of_index(&index);
    target.write_document(&base, &swapped, &["latest".parse().expect("a tag")]).await.expect("written");
    let found = fixture.differences(&target).await;
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(found[1].contains("latest linux/arm64: other-platform, a configuration for linux/amd64"));
    assert!(found[2].contains("latest linux/amd64: other-platform, a configuration for linux/arm64"));

    fixture.publish(&target).await.expect("published");
    assert_eq!(fixture.differences(&target).await, Vec::<String>::new());
    let lost = release.images[0].platforms[&AMD.parse().expect("a platform")].manifest.digest.clone();
    target.remove_document(&base, &lost).await.expect("removed");
    let found = fixture.differences(&target).await;
    let told = format!("r.io/o/base linux/amd64: missing, nothing for {lost}");
    assert_eq!(
        found.iter().filter(|one| one.contains(&lost.to_string())).collect::<Vec<_>>().len(),
        3,
        "{found:#?}"
    );
    assert!(found.contains(&told), "{found:#?}");
}

#[tokio::test]
async fn f_r15_a_tag_that_someone_else_moves_meanwhile_is_told() {
    let fixture = pair().await;
    let scope: Repository = SCOPE.parse().expect("scope");
    let repository: Repository = "o/leaf".parse().expect("repository");
    let target = Memory::new();
    let source = Source { store: &fixture.store, repository: &scope, home: None };
    let publication = Publication::prepare(fixture.assemble().expect("release"), &homes(), &source)
        .await
        .expect("publication");
    let other =
        publication.release().images[1].platforms.values().next().expect("a platform").manifest.clone();
    let listener = |event: EventKind| {
        if matches!(&event, EventKind::TagPublished { reference, .. } if reference == "r.io/o/leaf:latest") {
            let pointer = Pointer::Digest(other.digest.clone());
            let meddle = async {
                let document = target.read_document(&repository, &pointer).await?;
                target.write_document(&repository, &document, &["latest".parse()?]).await
            };
            meddle.now_or_never().expect("memory does not wait").expect("moved");
        }
    };
    let meant = Target { store: &target, fresh: &target, registry: "r.io" };
    let published =
        publication.carry_out(&source, meant, &publisher(1), std::future::pending(), &listener).await;
    let problems = published.expect_err("it was not seen");
    assert_eq!(problems.exit_code(), 5);
    let text = problems.to_string();
    assert!(text.contains("r.io/o/leaf:latest points at") && text.contains("someone else"), "{text}");
}

#[tokio::test]
async fn what_the_store_has_lost_since_is_told_apart_from_what_the_registry_refuses() {
    let fixture = pair().await;
    let scope: Repository = SCOPE.parse().expect("scope");
    let source = Source { store: &fixture.store, repository: &scope, home: None };
    let publication = Publication::prepare(fixture.assemble().expect("release"), &homes(), &source)
        .await
        .expect("publication");
    let (empty, target) = (Memory::new(), Memory::new());
    let refusing = Watched::failing(target.clone(), 0, Failure::Before);
    let lost = Source { store: &empty, home: None, ..source };
    let told = async |source: &Source<'_>, store: &dyn Store| {
        let target = Target { store, fresh: store, registry: "r.io" };
        let carried_out =
            publication.carry_out(source, target, &publisher(1), std::future::pending(), &|_| {}).await;
        carried_out.expect_err("it cannot be done").iter().next().expect("a problem").clone()
    };
    let of_store = told(&lost, &target).await;
    assert!(of_store.message.ends_with("from the store"), "{of_store}");
    assert_eq!(of_store.hints, ["build it again: polyarch build"]);
    let of_target = told(&source, &refusing).await;
    assert!(of_target.message.ends_with("at r.io"), "{of_target}");
    assert_eq!(of_target.hints, ["see whether it answers: curl https://r.io/v2/"]);
}

#[tokio::test]
async fn i_p3_an_image_that_is_not_the_one_tested_is_not_published() {
    let mut fixture = pair().await;
    let job: JobId = "leaf@linux/arm64".parse().expect("job");
    fixture.passed.get_mut(&job).expect("leaf").image.config = Digest::of(b"another");
    let target = Memory::new();
    let problems = fixture.publish(&target).await.expect_err("it was published");
    assert!(problems.to_string().contains("is not as its record says"), "{problems}");
    assert_eq!(tags_of(&target).await, BTreeMap::new());
}

#[tokio::test]
async fn values_that_come_to_the_same_tag_make_it_once() {
    let mut fixture = Fixture::new(Divergence::Withhold).image("base", None, &[(AMD, Some("py-3"))]).await;
    let record = fixture.passed.values_mut().next().expect("a record");
    // `python-{0}` and `python-{0}.{1}` where both are told 3; and a common tag that a tagger makes too.
    record.checks.tags = ["py-3", "py-3", "latest"].map(str::to_owned).to_vec();
    check(
        &fixture.assemble().expect("release"),
        &expect![[r#"
            o/base:amd64-latest -> linux/amd64
            o/base:amd64-py-3 -> linux/amd64
            o/base:latest -> index
            o/base:py-3 -> index
        "#]],
    );
}
