//! Descriptors: how many there may be, and how close to that the process is.
//!
//! Nobody counts them. The kernel hands out the lowest number that is free (POSIX.1-2024, `open`), so the number of a
//! fresh one says how many are in use at least.

use rustix::process::{Resource, getrlimit};
use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};

/// How many the process may have open; `None` for any number.
pub(super) fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// The descriptors of the process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Descriptors {
    limit: u64,
    /// For what is no session: handshakes, refusals, operators, the API server.
    reserve: u64,
}

impl Descriptors {
    /// Keeps a twentieth of `limit` in reserve, 64 at least and 1024 at most.
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, reserve: (limit / 20).clamp(64, 1024).min(limit / 2) }
    }

    /// For how many sessions they are enough: each has one to its client and one to its backend.
    pub(super) fn sessions(self) -> usize {
        usize::try_from((self.limit - self.reserve) / 2).unwrap_or(usize::MAX)
    }

    /// Whether `fresh` is out of the second half of the reserve: no new session.
    pub(super) fn are_scarce(self, fresh: RawFd) -> bool {
        self.is_among(fresh, self.reserve / 2)
    }

    /// Whether `fresh` is out of the last quarter of the reserve: not even a refusal.
    pub(super) fn are_out(self, fresh: RawFd) -> bool {
        self.is_among(fresh, self.reserve / 4)
    }

    fn is_among(self, fresh: RawFd, last: u64) -> bool {
        u64::try_from(fresh).is_ok_and(|fresh| fresh >= self.limit - last)
    }

    /// Whether they are scarce, by taking one for a moment.
    pub(super) fn look(self) -> bool {
        // What cannot be opened for another reason than a lack of descriptors says nothing.
        match File::open("/dev/null") {
            Ok(file) => self.are_scarce(file.as_raw_fd()),
            Err(error) => error.raw_os_error() == Some(libc::EMFILE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_leave_a_reserve_of_which_handshakes_leave_the_last() {
        let of = |limit| Descriptors::new(limit);
        assert_eq!((of(1024).sessions(), of(20_000).sessions(), of(1 << 20).sessions()), (480, 9500, 523_776));
        let small = of(1024);
        assert!(!small.are_scarce(991) && small.are_scarce(992));
        assert!(!small.are_out(1007) && small.are_out(1008));
        assert!(of(0).sessions() == 0 && of(0).are_out(0), "nothing is less than none");
    }

    #[test]
    fn this_process_has_some_left() {
        assert!(limit().is_none_or(|limit| !Descriptors::new(limit).look()));
        assert!(Descriptors::new(1).look());
    }
}
