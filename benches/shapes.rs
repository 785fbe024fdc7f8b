//! Families as their jobs alone: generated from a seed, and in the shapes of three real projects.

use crate::dice::Dice;

/// One job of a family.
pub(crate) struct ShapeJob {
    pub(crate) unit: usize,
    pub(crate) platform: &'static str,
    pub(crate) parents: Vec<usize>,
    pub(crate) seconds: u64,
}

/// A family.
pub(crate) struct Shape {
    pub(crate) name: String,
    /// Parents before children.
    pub(crate) jobs: Vec<ShapeJob>,
}

const PLATFORMS: [&str; 3] = ["linux/amd64", "linux/arm64", "linux/s390x"];

/// A family of units, each with its parents among those before it and its seconds on the first platform, on some
/// platforms; what a platform takes differs a little from job to job.
fn on_platforms(name: String, units: &[(Vec<usize>, u64)], platforms: usize, dice: &mut Dice) -> Shape {
    let mut jobs = Vec::new();
    for (unit, (parents, seconds)) in units.iter().enumerate() {
        for (at, platform) in PLATFORMS[..platforms].iter().enumerate() {
            let factor = if at == 0 { 100 } else { 80 + dice.below(70) as u64 };
            let parents = parents.iter().map(|parent| parent * platforms + at).collect();
            jobs.push(ShapeJob { unit, platform, parents, seconds: (seconds * factor / 100).max(1) });
        }
    }
    Shape { name, jobs }
}

/// 2 to 40 units upon a few roots, one in six with a second parent, of 10 seconds to 40 minutes, most of them short;
/// on 1 to 3 platforms.
pub(crate) fn generated(seed: u64) -> Shape {
    let mut dice = Dice(seed.wrapping_mul(0x2545_F491_4F6C_DD1D) ^ 0xA5A5);
    let count = 2 + dice.below(39);
    let reach = 1 + dice.below(count);
    let mut units: Vec<(Vec<usize>, u64)> = Vec::new();
    for unit in 0..count {
        let mut parents = Vec::new();
        if unit > 0 && dice.below(12) > 0 {
            parents.push(unit - 1 - dice.below(unit.min(reach)));
            if dice.below(6) == 0 {
                parents.push(dice.below(unit));
            }
            parents.dedup();
        }
        let scale = [10, 60, 60, 300, 300, 600, 1200][dice.below(7)];
        units.push((parents, (scale + dice.below(scale)) as u64));
    }
    let platforms = 1 + dice.below(3);
    on_platforms(format!("seed {seed}"), &units, platforms, &mut dice)
}

/// So many jobs on two platforms, as a family of families.
pub(crate) fn large(jobs: usize) -> Shape {
    let mut dice = Dice(5_000);
    let units: Vec<(Vec<usize>, u64)> = (0..jobs / 2)
        .map(|unit| {
            let parents =
                if unit % 50 == 0 { Vec::new() } else { vec![unit - 1 - dice.below((unit % 50).min(8))] };
            (parents, 30 + dice.below(900) as u64)
        })
        .collect();
    on_platforms("large".to_owned(), &units, 2, &mut dice)
}

/// The graphs are those of the projects; of the times those on the first path of docker-stacks and those of the first
/// image of HySDS are published, and all others are assumed.
pub(crate) fn real() -> Vec<Shape> {
    let docker_stacks: &[(&[usize], u64)] = &[
        (&[], 81),
        (&[0], 172),
        (&[1], 219),
        (&[2], 366),
        (&[2], 300),
        (&[2], 480),
        (&[3], 420),
        (&[3], 540),
        (&[3], 420),
        (&[3], 600),
        (&[3], 600),
        (&[3], 600),
        (&[3], 363),
        (&[12], 452),
    ];
    let hysds: &[(&[usize], u64)] = &[
        (&[], 600),
        (&[0], 300),
        (&[0], 420),
        (&[0], 120),
        (&[1], 420),
        (&[2, 0], 300),
        (&[5], 240),
        (&[4, 1], 300),
        (&[2, 0], 300),
        (&[2, 0], 300),
        (&[2, 0], 300),
        (&[2, 0], 240),
    ];
    let airflow: &[(&[usize], u64)] = &[
        (&[], 720),
        (&[], 720),
        (&[], 720),
        (&[], 720),
        (&[], 720),
        (&[0], 420),
        (&[1], 420),
        (&[2], 420),
        (&[3], 420),
        (&[4], 420),
    ];
    let mut dice = Dice(1);
    [("docker-stacks", docker_stacks), ("HySDS", hysds), ("Airflow", airflow)]
        .map(|(name, units)| {
            let units: Vec<_> = units.iter().map(|(parents, seconds)| (parents.to_vec(), *seconds)).collect();
            on_platforms(name.to_owned(), &units, 2, &mut dice)
        })
        .into()
}
