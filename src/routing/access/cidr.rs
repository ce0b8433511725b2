//! Sets of addresses, written as CIDR blocks (RFC 4632, RFC 4291 §2.3): whether an address is in one of them.
//!
//! Blocks are merged into disjoint ranges once; a lookup is a binary search, about 14 steps among 10,000 blocks. An IPv4
//! address written as an IPv6 one (`::ffff:a.b.c.d`) is the IPv4 address.

use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// One block: all addresses that share the first `length` bits of `first`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    first: IpAddr,
    length: u8,
}

/// Why a text is no block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// Bits behind the prefix are set: a slip of the pen, more likely than not.
    #[error("{0} has bits set behind its prefix: write {1}")]
    HostBits(String, Cidr),
    /// It is not ADDRESS/LENGTH.
    #[error("{0:?} is no CIDR block: write an address and a prefix length, such as 10.0.0.0/8 or 2001:db8::/32")]
    Malformed(String),
}

impl Cidr {
    fn of(address: IpAddr, length: u8) -> Option<Self> {
        let first = match address {
            IpAddr::V4(v4) if length <= 32 => {
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
            }
            IpAddr::V6(v6) if length <= 128 => {
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
            _ => return None,
        };
        Some(Self { first, length })
    }

    /// The first and last address, as numbers, and whether they are IPv4.
    fn range(self) -> (bool, u128, u128) {
        match self.first.to_canonical() {
            IpAddr::V4(v4) => {
                // A block within ::ffff:0:0/96 keeps the length of its IPv4 part.
                let length = if self.first.is_ipv6() { self.length.saturating_sub(96) } else { self.length };
                let span = u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
                (true, u128::from(v4.to_bits()), u128::from(v4.to_bits() | span))
            }
            IpAddr::V6(v6) => {
                let span = u128::MAX.checked_shr(u32::from(self.length)).unwrap_or(0);
                (false, v6.to_bits(), v6.to_bits() | span)
            }
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.length)
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let malformed = || CidrError::Malformed(text.to_owned());
        let (address, length) = text.split_once('/').ok_or_else(malformed)?;
        let plain = length.len() <= 3 && length.bytes().all(|b| b.is_ascii_digit());
        let address: IpAddr = address.parse().map_err(|_| malformed())?;
        let length = length.parse().ok().filter(|_| plain).ok_or_else(malformed)?;
        let cidr = Self::of(address, length).ok_or_else(malformed)?;
        if cidr.first == address { Ok(cidr) } else { Err(CidrError::HostBits(text.to_owned(), cidr)) }
    }
}

/// A set of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CidrSet {
    v4: Box<[(u128, u128)]>,
    v6: Box<[(u128, u128)]>,
    /// As written, sorted, each once: for people.
    blocks: Box<[Cidr]>,
}

impl FromIterator<Cidr> for CidrSet {
    fn from_iter<I: IntoIterator<Item = Cidr>>(blocks: I) -> Self {
        let mut blocks: Vec<Cidr> = blocks.into_iter().collect();
        blocks.sort_unstable();
        blocks.dedup();
        let ranges = |wanted| {
            let ranges = blocks.iter().map(|block| block.range()).filter(|(v4, ..)| *v4 == wanted);
            merged(ranges.map(|(_, first, last)| (first, last)).collect())
        };
        Self { v4: ranges(true), v6: ranges(false), blocks: blocks.into() }
    }
}

/// Disjoint ranges in order.
fn merged(mut ranges: Vec<(u128, u128)>) -> Box<[(u128, u128)]> {
    ranges.sort_unstable();
    let mut out: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match out.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => out.push((first, last)),
        }
    }
    out.into()
}

impl CidrSet {
    /// Whether `address` is in one of the blocks.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (ranges, number) = match address.to_canonical() {
            IpAddr::V4(v4) => (&self.v4, u128::from(v4.to_bits())),
            IpAddr::V6(v6) => (&self.v6, v6.to_bits()),
        };
        let at = ranges.partition_point(|(first, _)| *first <= number);
        at > 0 && number <= ranges[at - 1].1
    }

    /// Whether no address is in it.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }
}

impl Serialize for CidrSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.blocks.len()))?;
        self.blocks.iter().try_for_each(|block| list.serialize_element(&block.to_string()))?;
        list.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(blocks: &[&str]) -> CidrSet {
        blocks.iter().map(|block| block.parse::<Cidr>().expect("a block")).collect()
    }

    #[test]
    fn an_address_is_in_a_block_by_its_first_bits() {
        let set = set(&["10.0.0.0/8", "10.1.0.0/16", "192.0.2.7/32", "2001:db8::/32", "::1/128"]);
        for inside in ["10.0.0.0", "10.255.255.255", "192.0.2.7", "2001:db8:ffff::1", "::1", "::ffff:10.9.9.9"] {
            assert!(set.contains(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["9.255.255.255", "11.0.0.0", "192.0.2.6", "192.0.2.8", "2001:db9::", "::2", "::10.1.1.1"] {
            assert!(!set.contains(outside.parse().unwrap()), "{outside}");
        }
        let all = self::set(&["0.0.0.0/0"]);
        assert!(all.contains("255.1.2.3".parse().unwrap()) && !all.contains("::1".parse().unwrap()));
        assert!(self::set(&["::/0"]).contains("ffff::".parse().unwrap()));
        assert!(self::set(&["::ffff:10.0.0.0/104"]).contains("10.2.3.4".parse().unwrap()));
        assert!(!CidrSet::default().contains("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn agrees_with_a_plain_search_whatever_the_blocks() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..50 {
            let blocks: Vec<Cidr> = (0..40)
                .filter_map(|_| {
                    let address = Ipv4Addr::from_bits(random.u32(..) & 0x0003_ffff);
                    Cidr::of(address.into(), random.u8(14..=32))
                })
                .collect();
            let set: CidrSet = blocks.iter().copied().collect();
            for _ in 0..400 {
                let number = u128::from(random.u32(..0x0004_0000));
                let plain = blocks.iter().any(|block| {
                    let (_, first, last) = block.range();
                    (first..=last).contains(&number)
                });
                let address = Ipv4Addr::from_bits(u32::try_from(number).unwrap());
                assert_eq!(set.contains(address.into()), plain, "{address} in {blocks:?}");
            }
        }
    }

    #[test]
    fn what_is_no_block_is_told_with_what_to_write() {
        let error = |text: &str| text.parse::<Cidr>().unwrap_err().to_string();
        assert!(error("10.1.2.3/8").ends_with("write 10.0.0.0/8"), "{}", error("10.1.2.3/8"));
        for text in [
            "",
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "::/129",
            "x/8",
            "10.0.0.0/8/8",
            "10.0.0.0/008 ",
        ] {
            assert!(error(text).contains("is no CIDR block"), "{text}");
        }
    }
}
