//! Who takes part, and who of them writes which partition: the same answer on every node that knows of the same ones.

use std::collections::BTreeSet;

use crate::stream::partitions::{PARTITIONS, Partitions, stable_hash};

/// The members at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct View {
    /// Addresses, sorted.
    participants: Vec<String>,
    owners: Vec<String>,
    /// Place of the owner of each partition among `owners`.
    table: Vec<usize>,
}

impl View {
    /// `receives_only` are participants that own nothing; if all are, all own.
    pub(super) fn new(participants: BTreeSet<String>, receives_only: &BTreeSet<String>) -> View {
        let participants: Vec<String> = participants.into_iter().collect();
        let mut owners = participants.clone();
        owners.retain(|address| !receives_only.contains(address));
        if owners.is_empty() {
            owners.clone_from(&participants);
        }
        // The highest draw of all owners wins, so that one who comes or goes changes only its own share.
        let draw = |partition: usize, owner: &str| stable_hash(partition as u64, owner.as_bytes());
        let winner = |partition: usize| {
            let draws = owners.iter().enumerate();
            let draws = draws.map(|(at, owner)| (draw(partition, owner), at));
            draws.max().map_or(0, |(_, at)| at)
        };
        View {
            table: (0..PARTITIONS).map(winner).collect(),
            participants,
            owners,
        }
    }

    pub(super) fn participants(&self) -> &[String] {
        &self.participants
    }

    pub(super) fn owners(&self) -> &[String] {
        &self.owners
    }

    /// Whose a partition is; `None` if nobody takes part.
    pub(super) fn owner(&self, partition: usize) -> Option<&str> {
        let at = self.table.get(partition)?;
        self.owners.get(*at).map(String::as_str)
    }

    /// The share of one of them.
    pub(super) fn share(&self, address: &str) -> Partitions {
        Partitions::select(|partition| self.owner(partition) == Some(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(names: &[&str], receivers: &[&str]) -> View {
        let set = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        View::new(set(names), &set(receivers))
    }

    const A: &str = "10.0.0.1:11800";
    const B: &str = "10.0.0.2:11800";
    const C: &str = "10.0.0.3:11800";

    #[test]
    fn everything_is_somebodys_and_shares_are_alike() {
        let three = view(&[A, B, C], &[]);
        let shares = [A, B, C].map(|name| three.share(name));
        let all = shares
            .iter()
            .fold(Partitions::default(), |all, s| all.or(*s));
        assert_eq!(all, Partitions::ALL);
        assert_eq!(shares.map(|s| s.len()).iter().sum::<usize>(), PARTITIONS);
        for share in shares {
            assert!(share.len().abs_diff(PARTITIONS / 3) < 60, "{}", share.len());
        }
    }

    #[test]
    fn who_comes_takes_and_who_goes_gives_only_its_share() {
        let (two, three) = (view(&[A, B], &[]), view(&[C, B, A], &[]));
        for name in [A, B] {
            let kept = three.share(name);
            assert!(kept.without(two.share(name)).is_empty());
        }
        let lone = view(&[A], &[]);
        assert_eq!(lone.share(A), Partitions::ALL);
    }

    #[test]
    fn receivers_own_nothing_unless_there_are_no_others() {
        let mixed = view(&[A, B], &[B]);
        assert_eq!(mixed.share(A), Partitions::ALL);
        assert_eq!(mixed.participants().len(), 2);
        assert_eq!(view(&[A, B], &[A, B]).owners().len(), 2);
        assert_eq!(view(&[], &[]).owner(3), None);
    }
}
