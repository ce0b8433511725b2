//! Refusals of services: where a body ends is the only question, and an answer that leaves it open, or in which a second one
//! hides, must not reach the client as two. Row U9 of the duties.

use crate::upstream_heads::{Client, Row, bad, joined, right, row};

/// An answer that is not 101, with these lines and this body, and what becomes of it.
fn refusal(name: &'static str, start: &str, lines: &str, body: &str, client: Client) -> Row {
    row(name, format!("HTTP/1.1 {start}\r\n{}\r\n{body}", joined(lines)), client)
}

/// All of them.
pub(crate) fn rows() -> Vec<Row> {
    let no = |name, lines: &str| refusal(name, "403 Forbidden", lines, "no", Client::BadGateway);
    let chunked = |name, body: &str, client| refusal(name, "403 Forbidden", "Transfer-Encoding: chunked", body, client);
    let second = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nplanted";
    vec![
        refusal("U9 whole", "403 Forbidden", "Content-Length: 2", "no", Client::Gets(403, "no")),
        refusal(
            "U9 the same length twice",
            "403 Forbidden",
            "Content-Length: 2|Content-Length: 2",
            "no",
            Client::Gets(403, "no"),
        ),
        refusal(
            "U9 a second answer behind it",
            "403 Forbidden",
            "Content-Length: 2",
            &format!("no{second}"),
            Client::Gets(403, "no"),
        ),
        refusal(
            "U9 a 101 behind it",
            "403 Forbidden",
            "Content-Length: 2",
            &format!("no{}", right("")),
            Client::Gets(403, "no"),
        ),
        refusal(
            "U9 a second answer behind nothing",
            "403 Forbidden",
            "Content-Length: 0",
            second,
            Client::Gets(403, ""),
        ),
        refusal("U9 a body of a 204", "204 No Content", "Content-Length: 2", "no", Client::Gets(204, "")),
        refusal("U9 a second answer behind a 204", "204 No Content", "", second, Client::Gets(204, "")),
        refusal("U9 a body of a 304", "304 Not Modified", "Content-Length: 2", "no", Client::Gets(304, "")),
        refusal(
            "U9 a length and more than it",
            "403 Forbidden",
            "Content-Length: 2",
            "nonono",
            Client::Gets(403, "no"),
        ),
        refusal("U9 a length and less than it", "403 Forbidden", "Content-Length: 20", "no", Client::Cut(403)),
        no("U9 length and coding", "Content-Length: 2|Transfer-Encoding: chunked"),
        no("U9 coding and length", "Transfer-Encoding: chunked|Content-Length: 2"),
        no("U9 two lengths", "Content-Length: 2|Content-Length: 3"),
        no("U9 a list of lengths that differ", "Content-Length: 2, 3"),
        no("U9 a signed length", "Content-Length: +2"),
        no("U9 a negative length", "Content-Length: -2"),
        no("U9 a hexadecimal length", "Content-Length: 0x2"),
        no("U9 an empty length", "Content-Length:"),
        no("U9 a length and a comma", "Content-Length: 2,"),
        no("U9 a length and a parameter", "Content-Length: 2;x"),
        no("U9 a length beyond 64 bits", "Content-Length: 18446744073709551618"),
        no("U9 an unknown coding", "Transfer-Encoding: gzip"),
        no("U9 an empty coding", "Transfer-Encoding:"),
        no("U9 a coding that is quoted", "Transfer-Encoding: \"chunked\""),
        no("U9 a list of codings", "Transfer-Encoding: gzip, chunked"),
        no("U9 chunked twice", "Transfer-Encoding: chunked, chunked"),
        no("U9 two lines of codings", "Transfer-Encoding: chunked|Transfer-Encoding: chunked"),
        bad(
            "U9 a coding of HTTP/1.0",
            "HTTP/1.0 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
        ),
        chunked("U9 chunks", "2\r\nno\r\n0\r\n\r\n", Client::Gets(403, "no")),
        chunked("U9 a second answer behind chunks", &format!("2\r\nno\r\n0\r\n\r\n{second}"), Client::Gets(403, "no")),
        chunked("U9 no last chunk", "2\r\nno\r\n", Client::Cut(403)),
        chunked("U9 half a chunk", "5\r\nno", Client::Cut(403)),
        chunked("U9 a chunk longer than it says", "2\r\nnono\r\n0\r\n\r\n", Client::Spoilt(403)),
        chunked("U9 a chunk of a negative size", "-2\r\nno\r\n0\r\n\r\n", Client::Spoilt(403)),
        chunked("U9 a chunk of no size", "\r\nno\r\n0\r\n\r\n", Client::Spoilt(403)),
        chunked("U9 a chunk beyond 64 bits", "fffffffffffffffff\r\nno\r\n0\r\n\r\n", Client::Spoilt(403)),
        chunked("U9 chunks by bare LF", "2\nno\n0\n\n", Client::Spoilt(403)),
        chunked("U9 an answer where a chunk should be", second, Client::Spoilt(403)),
    ]
}
