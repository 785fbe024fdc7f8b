//! Whether what must hold is held, by faults that are planted.

use super::*;
use crate::oci::{ImageIndex, fixture};
use crate::publish::invariants::{Allowed, Content};

/// Moves a tag that no open journal names; whether that is believed to be a fault, and whether it is passed over. Who
/// dies does so while the request is on its way.
async fn moved(conditions: bool, dies: bool) -> (bool, bool) {
    let (repository, tag): (Repository, Tag) =
        ("o/base".parse().expect("name"), "latest".parse().expect("tag"));
    let memory = Memory::new();
    let index = Document::of_index(&ImageIndex::new(Vec::new()));
    let index = fixture::keep(&memory, &repository, index, &[]).await;
    let habits = Habits {
        conditions,
        careless: true,
        settles: Duration::ZERO,
        loses: 0,
        slow: 0,
        down: Vec::new(),
        refuses: Vec::new(),
    };
    let known = Known::from([(index.digest().clone(), Content::default())]);
    let world = World::new(Arc::new(known), habits, Dice(1), false);
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
