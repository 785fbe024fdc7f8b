//! Results of tries that do not count any more (F-G10): an engine that was cut off may push all the same.
//!
//! Nothing of them is ever taken: a try pushes to a tag of its own, and what reads that tag ended with the try. The tag
//! goes with the run. What is left to do is to say where the same inputs have made two images.

use super::State;
use super::adopt;
use super::losses::Abandoned;
use crate::event::EventKind;

impl State<'_> {
    /// Tell of what lost builders have pushed, where it is another image than the one that was accepted.
    pub(super) async fn tell_of_late_results(&mut self) {
        let records = &self.session.records;
        for Abandoned { job, builder, tag } in std::mem::take(&mut self.losses.abandoned) {
            let Some(passed) = self.ran.passed.get(&job) else { continue };
            let pushed = adopt::pushed(&*records.store, &records.scope, &tag.into()).await;
            if let Some(config) = pushed.filter(|config| *config != passed.image.config) {
                let (job, config) = (job.to_string(), config.to_string());
                (self.session.show)(EventKind::LateResult { job, builder, config });
            }
        }
    }
}
