//! What holds of every family, whatever it is made of.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;

const CONFIG: &str = "platforms = [\"linux/amd64\", \"linux/arm64\"]\n";

/// An image that uses some of those before it, by their numbers, and says a word.
type Made = (Vec<usize>, u8);

fn families() -> impl Strategy<Value = Vec<Made>> {
    vec((vec(any::<usize>(), 0..3), any::<u8>()), 1..9)
}

/// The images that one of a family uses.
fn used(at: usize, (uses, _): &Made) -> BTreeSet<usize> {
    uses.iter().filter_map(|number| number.checked_rem(at)).collect()
}

fn dockerfiles(images: &[Made]) -> Vec<(String, String)> {
    let dockerfile = |(at, image): (usize, &Made)| {
        let mut uses = used(at, image).into_iter();
        let from = uses.next().map_or_else(|| "scratch".to_owned(), |number| format!("i{number}"));
        let copies: String = uses.map(|number| format!("COPY --from=i{number} / /\n")).collect();
        (format!("i{at}"), format!("FROM {from}\n{copies}RUN echo {at} {}\n", image.1))
    };
    images.iter().enumerate().map(dockerfile).collect()
}

/// An image, and all that stand on it.
fn standing_on(images: &[Made], first: usize) -> BTreeSet<String> {
    let mut found = BTreeSet::from([first]);
    for (at, image) in images.iter().enumerate() {
        if !used(at, image).is_disjoint(&found) {
            found.insert(at);
        }
    }
    found.into_iter().map(|at| format!("i{at}")).collect()
}

fn keys(plan: &Plan) -> BTreeMap<&JobId, (&Digest, &key::Inputs)> {
    plan.jobs.iter().map(|(job, planned)| (job, (&planned.key, &planned.inputs))).collect()
}

proptest! {
    #[test]
    fn i_b9_the_order_in_which_a_family_is_found_is_in_no_plan(
        (files, shuffled) in families().prop_flat_map(|images| {
            let files = dockerfiles(&images);
            (Just(files.clone()), Just(files).prop_shuffle())
        }),
    ) {
        let plan = all(&family(CONFIG, &files), &Facts::default());
        prop_assert_eq!(format!("{plan:?}"), format!("{:?}", all(&family(CONFIG, &shuffled), &Facts::default())));
        for (at, job) in plan.order.iter().enumerate() {
            let parents = &plan.jobs[job].parents;
            prop_assert!(parents.iter().all(|parent| plan.order[..at].contains(parent)), "{}", job);
        }
    }

    #[test]
    fn i_b3_one_changed_dockerfile_changes_its_own_key_and_those_upon_it_and_no_other(
        images in families(),
        which in any::<prop::sample::Index>(),
    ) {
        let which = which.index(images.len());
        let mut others = images.clone();
        others[which].1 = images[which].1.wrapping_add(1);
        let plans = [&images, &others].map(|images| all(&family(CONFIG, &dockerfiles(images)), &Facts::default()));
        let changed = plans[0].jobs.iter().filter(|(job, planned)| plans[1].jobs[job].key != planned.key);
        let changed: BTreeSet<String> = changed.map(|(job, _)| job.unit.to_string()).collect();
        prop_assert_eq!(changed, standing_on(&images, which));
    }

    #[test]
    fn i_b3_other_inputs_are_another_key_and_the_same_are_the_same(
        one in btree_map("[ab:=]{0,3}", "[ab:=]{0,3}", 0..4),
        other in btree_map("[ab:=]{0,3}", "[ab:=]{0,3}", 0..4),
    ) {
        prop_assert_eq!(key::key_of(&one) == key::key_of(&other), one == other);
    }

    #[test]
    fn i_t3_what_stands_is_in_no_key_and_saves_every_build_where_all_of_it_stands(
        images in families(),
        stands in vec(any::<bool>(), 16),
    ) {
        let family = family(CONFIG, &dockerfiles(&images));
        let nothing = all(&family, &Facts::default());
        let mut facts = with_records(&family, Facts::default());
        prop_assert_eq!(all(&family, &facts).reused(), nothing.jobs.len(), "I-B1");
        let mut stands = stands.into_iter();
        facts.images.retain(|_, _| stands.next().unwrap_or_default());
        let some = all(&family, &facts);
        prop_assert_eq!(keys(&some), keys(&nothing));
    }
}
