//! Builders whose disk is full: a job that does not fit goes elsewhere or waits, and says so.

use super::State;
use super::builder::wanted;
use super::job::Work;
use super::watch::Watch;
use crate::engine::Room;
use crate::schedule::Ticket;

impl State<'_> {
    /// There is no room for a job on its builder.
    pub(super) fn turned_away(
        &mut self,
        work: &Work<'_>,
        ticket: Ticket,
        room: &Room,
        watch: &mut Watch<'_>,
    ) {
        let builder = &work.builder.name;
        let Some(machine) = self.dispatch.place(work.builder) else { return };
        self.dispatch.turned_away(ticket, machine, available(room));
        self.losses.rooms.insert(machine, room.clone());
        self.moves(work.job.clone(), ticket, builder, work.no_room(room).message);
        watch.await_room(machine, wanted(&work.planned.terms));
    }

    /// There is more room on a builder that had too little.
    pub(super) fn has_room(&mut self, machine: usize, room: &Room) {
        self.losses.rooms.insert(machine, room.clone());
        self.dispatch.free(machine, available(room));
    }
}

/// How much can be written.
fn available(room: &Room) -> u64 {
    if room.read_only { 0 } else { room.free }
}
