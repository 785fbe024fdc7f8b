//! Whether what must hold is held, by faults that are planted.

use super::*;
use crate::oci::{ImageIndex, Platform, fixture};
use crate::publish::invariants::{Allowed, Content};

fn world(conditions: bool, known: Known) -> Arc<World> {
    let habits = Habits {
        conditions,
        careless: true,
        settles: Duration::ZERO,
        loses: 0,
        slow: 0,
        down: Vec::new(),
        refuses: Vec::new(),
    };
    World::new(Arc::new(known), habits, Dice(1), false)
}

/// Moves a tag that no open journal names; whether that is believed to be a fault, and whether it is passed over. Who
/// dies does so while the request is on its way.
async fn moved(conditions: bool, dies: bool) -> (bool, bool) {
    let (repository, tag): (Repository, Tag) =
        ("o/base".parse().expect("name"), "latest".parse().expect("tag"));
    let memory = Memory::new();
    let index = Document::of_index(&ImageIndex::new(Vec::new()));
    let index = fixture::keep(&memory, &repository, index, &[]).await;
    let known = Known::from([(index.digest().clone(), Content::default())]);
    let world = world(conditions, known);
    now(world.memory.write_document(&repository, &index, &[]));
    let places = [((repository.clone(), tag.clone()), index.digest().clone())].into();
    world.shadow(|shadow| shadow.allow("p", Allowed { places, ..Allowed::default() }));

    let script = Script { dies: dies.then_some((0, true)), ..Script::default() };
    let process = Process::new("p".to_owned(), script);
    let seen = Seen { world: Arc::clone(&world), process: Arc::clone(&process), fresh: false };
    let writing = seen.write_document(&repository, &index, std::slice::from_ref(&tag));
    let ended = Alive { work: Box::pin(writing), process, still: None }.await;
    assert_eq!(ended.is_none(), dies);
    world.gone("p");
    sleep(Duration::from_secs(1)).await;
    assert!(now(world.memory.resolve(&repository, &tag.into())).is_some(), "it has arrived");
    world.shadow(|shadow| (!shadow.violations().is_empty(), shadow.limit().is_some()))
}

#[tokio::test(start_paused = true)]
async fn a_late_tag_of_one_who_is_gone_is_passed_over_where_there_are_no_conditions_alone() {
    for conditions in [false, true] {
        for dies in [false, true] {
            let passed = !conditions && dies;
            assert_eq!(moved(conditions, dies).await, (!passed, passed), "{conditions} {dies}");
        }
    }
}

/// What does not hold of an image for amd64 under a tag: named as for this platform in its index, tested for that one;
/// and again with another index of the same image.
async fn joined(named: &str, tested: Option<&str>, again: bool) -> Vec<String> {
    let (repository, tag): (Repository, Tag) =
        ("o/base".parse().expect("name"), "latest".parse().expect("tag"));
    let config = r#"{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}"#;
    let memory = Memory::new();
    let image = fixture::image(&memory, &repository, config, "layer", &[]).await;
    let entry = Descriptor { platform: Some(named.parse().expect("platform")), ..image.descriptor() };
    let plain = ImageIndex::new(vec![entry]);
    let marked = ImageIndex { annotations: [("at".to_owned(), "noon".to_owned())].into(), ..plain.clone() };
    let tested = tested.map(|platform| platform.parse::<Platform>().expect("platform"));
    let mut known = Known::from([(image.digest().clone(), Content { tested, ..Content::default() })]);
    let indexes = [plain, marked].map(|index| Document::of_index(&index));
    let indexes = &indexes[..1 + usize::from(again)];
    known.extend(indexes.iter().map(|index| (index.digest().clone(), Content::default())));
    let world = world(true, known.clone());
    fixture::image(&world.memory, &repository, config, "layer", &[]).await;
    let writer = Writer::of_list("p", Duration::ZERO);
    for index in indexes {
        now(world.memory.write_document(&repository, index, &[]));
        world.shadow(|shadow| {
            shadow.tag((&world.memory, &known), (&repository, &tag), Some(index.digest()), &writer);
        });
    }
    let laws = world.shadow(|shadow| shadow.violations().to_vec()).into_iter();
    laws.filter(|what| what.contains("I-P3") || what.contains("I-P6")).collect()
}

#[tokio::test]
async fn i_p3_i_p6_entries_that_do_not_fit_and_indexes_that_differ_are_seen() {
    let (amd, arm) = ("linux/amd64", "linux/arm64");
    assert_eq!(joined(amd, Some(amd), false).await, [""; 0]);
    for (named, tested, again, law, of) in [
        (amd, None, false, "I-P3", "tested for None"),
        (amd, Some(arm), false, "I-P3", "tested for"),
        (arm, Some(arm), false, "I-P3", "the configuration another"),
        (amd, Some(amd), true, "I-P6", "joins the same images"),
    ] {
        let found = joined(named, tested, again).await;
        assert!(found.len() == 1 && found[0].starts_with(law) && found[0].contains(of), "{found:?}");
    }
}
