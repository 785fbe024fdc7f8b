//! Whether an engine reaches the store that is served on this machine's loopback, which is its own only where nothing stands
//! between: a rootless engine has another, so has one in a virtual machine, and a socket may lead to another machine.
//!
//! It is had to pull what is not there, by a name that it cannot know otherwise. Where the store hears that name it is
//! reached. What the engine answers does not count: another registry at that port of its machine answers the same.

use std::time::Duration;

use super::{ANSWER_BYTES, Docker, probe};
use crate::diag::{Diagnostic, Kind};
use crate::engine::{Stock, StoreAddress};
use crate::oci::server::Knocks;
use crate::oci::{Digest, Secret};

/// How long it may take. What reaches the store has asked within a moment.
const TIME_LIMIT: Duration = Duration::from_secs(30);

impl Docker {
    /// The same engine, fed from a stock where it does not reach the store.
    ///
    /// # Errors
    /// Where the engine does not answer.
    pub(crate) async fn fed(
        self,
        store: &StoreAddress,
        knocks: &Knocks,
        stock: Stock,
    ) -> Result<Self, Diagnostic> {
        self.facts().await?;
        let Some(reason) = self.missed(store, knocks).await? else { return Ok(self) };
        let problem = format!("{} does not reach the store at {}", self.address(), store.registry);
        let note = Diagnostic::warning(problem)
            .because(reason)
            .because("that is this machine's loopback: a rootless engine has its own, and so has one in a virtual machine or on another machine");
        let mut apart = self.apart(stock);
        apart.facts.get_mut().into_iter().for_each(|facts| facts.notes.push(note.clone()));
        Ok(apart)
    }

    /// What the engine said where the store has heard nothing of it.
    async fn missed(&self, store: &StoreAddress, knocks: &Knocks) -> Result<Option<String>, Diagnostic> {
        let repository = knocks
            .expect()
            .map_err(|error| Diagnostic::new(Kind::Surroundings, "ask for a name").caused_by(&error))?;
        // Whoever listens there may be somebody else, and learns no password.
        let password = Secret::new(repository.to_string());
        let asked = StoreAddress { repository: repository.clone(), password, ..store.clone() };
        let config = self.config(Some(&asked)).await?;
        let client = &self.client().await?.path;
        let reference = asked.at(&Digest::of(repository.as_str().as_bytes()));
        let pull = self.program(client, &config, TIME_LIMIT).arguments(["pull", "--quiet", &reference]);
        let output = pull.capture(ANSWER_BYTES).await;
        // Before any error: it is listened for no longer.
        let is_reached = knocks.was_heard(&repository);
        let output = output?;
        let complaint = output.complaint();
        // What the engine itself says is of the store.
        let is_of_client = !is_reached && !complaint.contains("Error response from daemon");
        if let Some(problem) = probe::unreachable(self, &complaint).filter(|_| is_of_client) {
            return Err(problem);
        }
        let said = complaint.lines().last().filter(|line| !line.is_empty());
        Ok((!is_reached).then(|| said.map_or_else(|| output.ended.to_string(), str::to_owned)))
    }
}
