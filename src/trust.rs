//! Whose word counts for a record: a judgement on signatures, which is a function of them and of the time.
//!
//! A signature counts where its key or identity is among those that were named from outside the tree, is not revoked,
//! is inside its term now, and was inside it when it signed. One that counts is enough: while a key is replaced, records
//! have two. What signatures say is read in `attest`; that they hold as such is settled there.

use std::fmt;

use crate::defence::{Defence, stands};

/// How far the clocks of two machines may lie apart, in seconds: what is ahead by no more is of now.
pub(crate) const CLOCKS_APART_SECONDS: u64 = 5 * 60;

/// From when until when a signer is believed, in seconds since 1970-01-01 UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Term {
    /// Not before.
    pub(crate) from: Option<u64>,
    /// Not after.
    pub(crate) until: Option<u64>,
    /// Never any more, whenever it signed.
    pub(crate) revoked: bool,
}

impl Term {
    fn has_begun(&self, seconds: u64) -> bool {
        self.from.is_none_or(|from| from <= seconds)
    }

    fn is_over(&self, seconds: u64) -> bool {
        self.until.is_some_and(|until| until < seconds)
    }
}

/// One signature on a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Signature {
    /// By one that was named, at a time that the signed text says.
    Known {
        /// The term of the signer.
        term: Term,
        /// When it signed, in seconds since 1970-01-01 UTC.
        at_seconds: u64,
    },
    /// It does not count as one: why not.
    Refused(&'static str),
}

impl Signature {
    /// Whether it is by one that was named, whether or not it counts.
    pub(crate) fn is_known(&self) -> bool {
        matches!(self, Self::Known { .. })
    }
}

/// Why a record does not count where only the word of trusted signers does; the last is the most telling.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Doubt {
    /// Nobody signed it.
    Unsigned,
    /// Something beside it is no signature of a trusted signer: why not.
    Foreign(&'static str),
    /// It was signed before the key counted, or in the future, or the key does not count yet.
    Early,
    /// It was signed after the key had expired, or the key has expired since.
    Expired,
    /// The key was revoked.
    Revoked,
    /// Bytes of its image are not what their digest says.
    Broken(String),
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned => f.write_str("its record is not signed"),
            Self::Foreign(why) => write!(f, "its record is signed by nobody who is trusted: {why}"),
            Self::Early => f.write_str("its record was signed before the key counted"),
            Self::Expired => f.write_str("its record is signed by a key that has expired"),
            Self::Revoked => f.write_str("its record is signed by a key that was revoked"),
            Self::Broken(what) => write!(f, "its record stands, but {what} is broken in the store"),
        }
    }
}

/// Whether a record with these signatures counts now, in seconds since 1970-01-01 UTC.
///
/// # Errors
/// The most telling reason why none of them counts.
pub(crate) fn judge(found: &[Signature], now: u64) -> Result<(), Doubt> {
    if found.is_empty() && !stands(Defence::SignedRecords) {
        return Ok(());
    }
    let doubts: Vec<Doubt> = found.iter().filter_map(|one| doubt(one, now)).collect();
    if doubts.len() < found.len() {
        return Ok(());
    }
    Err(doubts.into_iter().max().unwrap_or(Doubt::Unsigned))
}

fn doubt(signature: &Signature, now: u64) -> Option<Doubt> {
    let (term, at) = match signature {
        Signature::Refused(why) => return Some(Doubt::Foreign(why)),
        Signature::Known { term, at_seconds } => (term, *at_seconds),
    };
    if term.revoked && stands(Defence::Revocation) {
        return Some(Doubt::Revoked);
    }
    if !stands(Defence::KeyTerms) {
        return None;
    }
    if term.is_over(at) || term.is_over(now) {
        return Some(Doubt::Expired);
    }
    let early = !term.has_begun(at) || !term.has_begun(now) || at > now.saturating_add(CLOCKS_APART_SECONDS);
    early.then_some(Doubt::Early)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 1_000_000;

    fn by(from: Option<u64>, until: Option<u64>, revoked: bool, at_seconds: u64) -> Signature {
        Signature::Known { term: Term { from, until, revoked }, at_seconds }
    }

    #[test]
    fn f_u11_each_state_of_a_key_has_its_own_word() {
        let foreign = Signature::Refused("it has no signature of this key");
        for (found, expected) in [
            (vec![], Err(Doubt::Unsigned)),
            (vec![foreign.clone()], Err(Doubt::Foreign("it has no signature of this key"))),
            (vec![by(None, None, false, NOW - 5)], Ok(())),
            (vec![by(Some(NOW - 9), Some(NOW + 9), false, NOW - 5)], Ok(())),
            (vec![by(None, Some(NOW - 1), false, NOW - 5)], Err(Doubt::Expired)),
            (vec![by(None, Some(NOW + 1), false, NOW + 5)], Err(Doubt::Expired)),
            (vec![by(Some(NOW + 1), None, false, NOW + 5)], Err(Doubt::Early)),
            (vec![by(Some(NOW - 1), None, false, NOW - 5)], Err(Doubt::Early)),
            (vec![by(None, None, false, NOW + CLOCKS_APART_SECONDS)], Ok(())),
            (vec![by(None, None, false, NOW + CLOCKS_APART_SECONDS + 1)], Err(Doubt::Early)),
            (vec![by(None, None, true, NOW - 5)], Err(Doubt::Revoked)),
            (vec![foreign.clone(), by(None, None, true, NOW - 5)], Err(Doubt::Revoked)),
        ] {
            assert_eq!(judge(&found, NOW), expected, "{found:?}");
        }
        // Two keys in rotation: the old one is revoked, the new one counts, in either order.
        let both = [by(None, None, true, NOW - 9), foreign, by(Some(NOW - 9), None, false, NOW - 5)];
        assert_eq!(judge(&both, NOW), Ok(()));
        assert_eq!(judge(&both.into_iter().rev().collect::<Vec<_>>(), NOW), Ok(()));
    }

    fn signatures() -> impl Strategy<Value = Signature> {
        let time = || 0..20_u64;
        let term = (proptest::option::of(time()), proptest::option::of(time()), any::<bool>(), time());
        prop_oneof![
            Just(Signature::Refused("it is no Sigstore bundle")),
            term.prop_map(|(from, until, revoked, at)| by(from, until, revoked, at)),
        ]
    }

    proptest! {
        /// A record counts exactly where one signature is of a key that was named, is not revoked, and counts both now
        /// and when it signed. Whoever may attach more signatures never makes it count, nor keeps it from counting.
        #[test]
        fn i_t2_a_record_counts_by_one_good_signature_and_by_nothing_else(
            found in proptest::collection::vec(signatures(), 0..6),
            now in 0..20_u64,
        ) {
            let good = |one: &Signature| match one {
                Signature::Refused(_) => false,
                Signature::Known { term, at_seconds: at } => {
                    let inside = |time: u64| {
                        term.from.unwrap_or(0) <= time && time <= term.until.unwrap_or(u64::MAX)
                    };
                    !term.revoked && inside(*at) && inside(now)
                }
            };
            prop_assert_eq!(judge(&found, now).is_ok(), found.iter().any(good));
            let forged = Signature::Refused("it has no signature of this key");
            let more: Vec<Signature> = found.iter().cloned().chain([forged]).collect();
            prop_assert_eq!(judge(&more, now).is_ok(), judge(&found, now).is_ok());
        }
    }
}
