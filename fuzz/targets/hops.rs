//! `X-Forwarded-For` and `Forwarded`: nothing that a client puts before it moves or hides the entry of a trusted proxy.
//!
//! Input: a byte for the number of hops, then lines.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sheave::proxy::hops::{forwarded, x_forwarded_for};

fuzz_target!(|bytes: &[u8]| {
    let Some((hops, text)) = bytes.split_first() else { return };
    let hops = hops % 17;
    let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    for read in [x_forwarded_for, forwarded] {
        for own in 0..lines.len() {
            // What trusted proxies have written are the last lines; a client's come before.
            if let Some(address) = read(&lines[own..], hops) {
                assert_eq!(read(&lines, hops), Some(address), "a client's lines changed the answer");
            }
        }
        assert_eq!(read(&lines, 0), None);
    }
    // Nor does anything that stands before it on the same line.
    let before = |entry: &str| [text, entry.as_bytes()].concat();
    assert_eq!(x_forwarded_for(&[&before(", 192.0.2.7")], 1), Some([192, 0, 2, 7].into()));
    assert_eq!(forwarded(&[&before(", for=192.0.2.7")], 1), Some([192, 0, 2, 7].into()));
    assert_eq!(forwarded(&[&before(", for=\"192.0.2.7:8\";by=\"a,b\"")], 1), Some([192, 0, 2, 7].into()));
});
