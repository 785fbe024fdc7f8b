//! How much room there is where an engine keeps images, and on which disk.

use std::convert::Infallible;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::diag::size;

/// What lists, on the engine's machine, what [`Room::of_list`] reads: free room of the folder `'{}'`, and all mounts.
pub(super) const LIST: &str = "df -Pk '{}' && cat /proc/mounts";

/// With less room than this no job begins: an engine that has so little fails in ways that say nothing.
pub(crate) const LEAST_ROOM: u64 = 64_000_000;

/// How old what was seen of a room may be that is taken for recent.
const RECENT: Duration = Duration::from_secs(10);
/// How often it is looked anew: what was seen is recent then, also where that takes some seconds.
const RENEWED: Duration = Duration::from_secs(4);

/// Room for images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// How many bytes are free.
    pub(crate) free: u64,
    /// Nothing can be written, however much is free.
    pub(crate) read_only: bool,
    /// The folder, where there is one.
    root: Option<PathBuf>,
    /// The device and where it is mounted.
    disk: Option<(String, String)>,
}

impl Room {
    /// So many bytes, by somebody's word.
    pub(crate) fn given(free: u64) -> Self {
        Self { free, read_only: false, root: None, disk: None }
    }

    /// The room in a folder of this machine; `None` where it cannot be seen.
    pub(crate) fn of_this_machine(root: &Path) -> Option<Self> {
        let state = rustix::fs::statvfs(root).ok()?;
        let real = root.canonicalize().ok()?;
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let mounted = mounts.lines().filter_map(Mounted::read).filter(|one| real.starts_with(&one.on));
        // Of the same depth the last hides those before.
        let mounted = mounted.max_by_key(|one| Path::new(&one.on).components().count());
        Some(Self {
            free: state.f_bavail * state.f_frsize,
            read_only: mounted.as_ref().is_some_and(|one| one.read_only)
                || state.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
            root: Some(root.to_owned()),
            disk: mounted.map(|one| (one.device, one.on)),
        })
    }

    /// The room in a folder of another machine, by what [`LIST`] says there.
    pub(super) fn of_list(root: &Path, listed: &str) -> Option<Self> {
        let mut lines = listed.lines().skip(1);
        // Linux and POSIX: file system, 1024-blocks, used, available, capacity, mounted on.
        let fields: Vec<&str> = lines.next()?.split_whitespace().collect();
        let (device, on) = ((*fields.first()?).to_owned(), fields.get(5..)?.join(" "));
        let kibibytes: u64 = fields.get(3)?.parse().ok()?;
        let mounted = lines.filter_map(Mounted::read).filter(|one| one.on == on).last();
        Some(Self {
            free: kibibytes << 10,
            read_only: mounted.is_some_and(|one| one.read_only),
            root: Some(root.to_owned()),
            disk: Some((device, on)),
        })
    }

    /// The same with no more than so many bytes.
    pub(crate) fn at_most(self, most: u64) -> Self {
        Self { free: self.free.min(most), ..self }
    }

    /// Where less can be written, of two places that both must take it.
    pub(super) fn least(self, other: Self) -> Self {
        let can_take = |room: &Self| if room.read_only { 0 } else { room.free };
        if can_take(&other) < can_take(&self) { other } else { self }
    }

    /// Whether so many bytes can be written.
    pub(crate) fn takes(&self, bytes: u64) -> bool {
        !self.read_only && self.free >= bytes
    }

    /// Where the disk is mounted.
    pub(crate) fn mount(&self) -> Option<&str> {
        self.disk.as_ref().map(|(_, on)| on.as_str())
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.read_only {
            true => f.write_str("a disk that can only be read")?,
            false => write!(f, "{} free", size(self.free))?,
        }
        if let Some(root) = &self.root {
            write!(f, " in {}", root.display())?;
        }
        match &self.disk {
            Some((device, on)) => write!(f, " ({device}, mounted on {on})"),
            None => Ok(()),
        }
    }
}

/// What was last seen of a room, and when.
#[derive(Default)]
pub(super) struct SeenRoom(Mutex<Option<(Instant, Room)>>);

impl SeenRoom {
    /// Look at it now.
    pub(super) async fn now(&self, look: impl Future<Output = Option<Room>>) -> Option<Room> {
        let room = look.await;
        *self.0.lock().await = room.clone().map(|room| (Instant::now(), room));
        room
    }

    /// What was seen some seconds ago, else look at it now; whoever else wants to know waits for what is seen then.
    pub(super) async fn recent(&self, look: impl Future<Output = Option<Room>>) -> Option<Room> {
        let mut seen = self.0.lock().await;
        if let Some((_, room)) = seen.as_ref().filter(|(at, _)| at.elapsed() <= RECENT) {
            return Some(room.clone());
        }
        let room = look.await;
        *seen = room.clone().map(|room| (Instant::now(), room));
        room
    }

    /// Look at it again and again, for as long as anybody waits for this.
    pub(super) async fn renew<L>(&self, look: impl Fn() -> L) -> Infallible
    where
        L: Future<Output = Option<Room>>,
    {
        loop {
            sleep(RENEWED).await;
            self.now(look()).await;
        }
    }
}

/// What says that nothing can be written: by wish, or since the file system was found faulty, which newer kernels tell
/// apart.
const READ_ONLY: &[&str] = &["ro", "emergency_ro", "shutdown"];

/// One line of `/proc/mounts`.
struct Mounted {
    device: String,
    on: String,
    read_only: bool,
}

impl Mounted {
    fn read(line: &str) -> Option<Self> {
        let mut fields = line.split(' ');
        let mut name = || fields.next().map(|name| name.replace("\\040", " "));
        let (device, on) = (name()?, name()?);
        let read_only = fields.nth(1)?.split(',').any(|option| READ_ONLY.contains(&option));
        Some(Self { device, on, read_only })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_g13_disk_and_mount_are_named() {
        let root = Path::new("/srv/my images/docker");
        let listed = "Filesystem 1024-blocks Used Available Capacity Mounted on\n\
                      /dev/sdb1 1000 996 4 100% /srv/my images\n\
                      /dev/sda1 / ext4 ro 0 0\n/dev/sdb1 /srv/my\\040images ext4 rw,noatime 0 0\n";
        let room = Room::of_list(root, listed).unwrap();
        let place = "in /srv/my images/docker (/dev/sdb1, mounted on /srv/my images)";
        assert_eq!(room.to_string(), format!("4.0 kB free {place}"));
        assert!(room.takes(4096) && !room.takes(4097));
        let broken = Room::of_list(root, &listed.replace("rw,noatime", "ro")).unwrap();
        assert_eq!(broken.to_string(), format!("a disk that can only be read {place}"));
        assert!(!broken.takes(0));
        let faulty = listed.replace("rw,noatime", "rw,noatime,emergency_ro");
        assert_eq!(Room::of_list(root, &faulty), Some(broken));
        for nothing in ["", "Filesystem\n", "df: /x: No such file or directory\n"] {
            assert_eq!(Room::of_list(root, nothing), None);
        }
        let here = Room::of_this_machine(Path::new("/proc")).unwrap();
        assert_eq!((here.mount(), here.free), (Some("/proc"), 0));
    }

    #[test]
    fn f_g6_of_two_places_the_one_counts_that_takes_less() {
        let read_only = Room { read_only: true, ..Room::given(9) };
        assert_eq!(Room::given(2).least(Room::given(1)), Room::given(1));
        assert_eq!(Room::given(1).least(Room::given(2)), Room::given(1));
        assert_eq!(Room::given(1).least(read_only.clone()), read_only);
        assert_eq!(read_only.clone().least(Room::given(1)), read_only);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_just_seen_is_not_looked_at_again_and_what_is_renewed_never_waited_for() {
        let (seen, looks) = (SeenRoom::default(), std::cell::Cell::new(0));
        let look = || async {
            sleep(Duration::from_secs(2)).await;
            looks.set(looks.get() + 1);
            Some(Room::given(looks.get()))
        };
        let both = futures_util::join!(seen.recent(look()), seen.recent(look()));
        assert_eq!(both, (Some(Room::given(1)), Some(Room::given(1))), "one looks for all");
        sleep(RECENT).await;
        assert_eq!(seen.recent(look()).await, Some(Room::given(1)));
        sleep(Duration::from_millis(1)).await;
        assert_eq!(seen.recent(look()).await, Some(Room::given(2)), "that was long ago");
        assert_eq!(seen.now(look()).await, Some(Room::given(3)), "now is now");
        let jobs = async {
            for _ in 0..100 {
                let before = Instant::now();
                assert!(seen.recent(look()).await.is_some());
                assert_eq!(before.elapsed(), Duration::ZERO);
                sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            never = seen.renew(look) => match never {},
            () = jobs => {}
        }
        assert_eq!(looks.get(), 3 + 100 / 6);
        assert_eq!(seen.now(async { None }).await, None);
        assert_eq!(seen.recent(look()).await, Some(Room::given(20)), "what cannot be seen is not kept");
    }
}
