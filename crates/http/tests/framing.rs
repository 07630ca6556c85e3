//! Properties of the framing: how bytes are cut never matters, and what passes means one thing to every reader.

use flowyte_http::wire::{Fault, Framing, Step};
use proptest::collection::vec;
use proptest::prelude::*;

/// What came of a stream that was given to a new [`Framing`] in pieces.
#[derive(Debug)]
struct Outcome {
    passed: Vec<u8>,
    /// The offsets in `passed` where a step ended.
    steps: Vec<usize>,
    fault: Option<Fault>,
}

/// `cuts` are fractions of the stream.
fn run(stream: &[u8], cuts: &[f64]) -> Outcome {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| (cut * stream.len() as f64) as usize).collect();
    ends.push(stream.len());
    ends.sort_unstable();
    let mut framing = Framing::new("api.example");
    let mut outcome = Outcome { passed: Vec::new(), steps: Vec::new(), fault: None };
    let (mut inbox, mut given) = (Vec::new(), 0);
    for end in ends {
        inbox.extend_from_slice(&stream[given..end]);
        given = end;
        loop {
            match framing.step(&inbox) {
                Ok(Step::Pass(count)) => {
                    outcome.passed.extend(inbox.drain(..count));
                    outcome.steps.push(outcome.passed.len());
                }
                Ok(Step::More) => break,
                Err(fault) => {
                    outcome.fault = Some(fault);
                    return outcome;
                }
            }
        }
    }
    outcome
}

fn cuts() -> impl Strategy<Value = Vec<f64>> {
    vec(0.0..=1.0, 0..12)
}

/// A valid request, as bytes of its head and of its body.
fn request() -> impl Strategy<Value = (String, Vec<u8>)> {
    let target = prop_oneof![
        "/[a-z0-9/._~%?&=-]{0,40}",
        "/[a-z]{0,8}".prop_map(|path| format!("http://api.example{path}")),
    ];
    let field = "[A-Za-z-]{1,12}x:[ \t]{0,2}[!-~]([ -~\t]{0,20}[!-~])?[ \t]{0,2}\r\n";
    let body = prop_oneof![
        Just((String::new(), Vec::new())),
        vec(any::<u8>(), 0..80).prop_map(|body| (format!("Content-Length: {}\r\n", body.len()), body)),
        vec(vec(any::<u8>(), 1..40), 0..4).prop_map(|chunks| {
            let mut body = Vec::new();
            for chunk in &chunks {
                body.extend(
                    format!("{:x}\r\n", chunk.len()).bytes().chain(chunk.iter().copied()).chain(*b"\r\n"),
                );
            }
            body.extend(b"0\r\n\r\n");
            ("Transfer-Encoding: chunked\r\n".to_owned(), body)
        }),
    ];
    ("[A-Z]{1,7}".prop_filter("a tunnel", |method| method != "CONNECT"), target, vec(field, 0..4), body)
        .prop_map(|(method, target, fields, (length, body))| {
            (format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{}{length}\r\n", fields.concat()), body)
        })
}

fn valid_stream() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    vec(request(), 1..5)
}

/// A valid stream with a few bytes changed, put in or taken out.
fn damaged_stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "\r\n",
        "\r",
        "\n",
        " ",
        "\t",
        ":",
        ",",
        "#",
        "\0",
        "\x0b",
        "\u{e9}",
        "0",
        "1",
        ";a=b",
        "+",
        "HTTP/1.0",
        "\r\nTransfer-Encoding: chunked",
        "\r\nTransfer-Encoding: identity",
        "\r\nContent-Length: 5",
        "\r\nContent-Length: 0",
        "\r\n\r\n",
        "\r\n0\r\n\r\n",
        "X: a\r\n",
        " a\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ]);
    (valid_stream(), vec((0.0..1.0, 0..4_usize, piece), 0..4)).prop_map(|(requests, edits)| {
        let mut stream: Vec<u8> =
            requests.iter().flat_map(|(head, body)| [head.as_bytes(), body].concat()).collect();
        for (place, removed, piece) in edits {
            let at = (place * stream.len() as f64) as usize;
            let end = (at + removed).min(stream.len());
            stream.splice(at..end, piece.bytes());
        }
        stream
    })
}

/// A careless reader of requests, as there are behind many gateways: where the messages begin and end.
struct Reader {
    prefers_transfer_encoding: bool,
}

impl Reader {
    /// Start, end of the head and end of the message, for each complete one.
    fn messages(&self, stream: &[u8]) -> Result<Vec<[usize; 3]>, String> {
        let (mut found, mut at) = (Vec::new(), 0);
        while at < stream.len() {
            let mut fields = [httparse::EMPTY_HEADER; 128];
            let mut request = httparse::Request::new(&mut fields);
            let head = match request.parse(&stream[at..]) {
                Ok(httparse::Status::Complete(length)) => at + length,
                other => return Err(format!("head at {at}: {other:?}")),
            };
            let value = |name: &str| {
                let field = request.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
                Some(String::from_utf8_lossy(field.value).trim().to_owned())
            };
            let length = value("content-length").and_then(|value| value.parse::<usize>().ok());
            let chunked =
                value("transfer-encoding").is_some_and(|value| value.to_lowercase().contains("chunked"));
            let end = match (chunked, length) {
                (true, None) => chunks_end(stream, head)?,
                (true, Some(_)) if self.prefers_transfer_encoding => chunks_end(stream, head)?,
                (_, length) => head.checked_add(length.unwrap_or(0)).filter(|end| *end <= stream.len()),
            };
            let Some(end) = end else { return Ok(found) };
            found.push([at, head, end]);
            at = end;
        }
        Ok(found)
    }
}

/// Where a chunked body that begins at `at` ends, if it is complete.
fn chunks_end(stream: &[u8], mut at: usize) -> Result<Option<usize>, String> {
    loop {
        match httparse::parse_chunk_size(&stream[at..]) {
            Ok(httparse::Status::Partial) => return Ok(None),
            Ok(httparse::Status::Complete((line, 0))) => {
                let last = at + line;
                return Ok(stream[last..]
                    .windows(2)
                    .position(|pair| pair == b"\r\n")
                    .map(|more| last + more + 2));
            }
            Ok(httparse::Status::Complete((line, size))) => at += line + size as usize + 2,
            Err(error) => return Err(format!("chunk at {at}: {error}")),
        }
        if at > stream.len() {
            return Ok(None);
        }
    }
}

#[test]
fn chunks_are_judged_here_and_not_left_to_the_next_reader() {
    for body in [
        "\r\n\r\n",
        "x\r\n",
        "3\r\nabcd",
        "3\r\nabc\r3",
        "3\rabc",
        "0\r\n\n",
        "0\r\n\r0",
        "1000000000000000\r\n",
    ] {
        let stream = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        assert!(matches!(run(stream.as_bytes(), &[]).fault, Some(Fault::Body(_))), "{body:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn valid_streams_pass_whole(requests in valid_stream(), cuts in cuts()) {
        let stream: Vec<u8> = requests.iter().flat_map(|(head, body)| [head.as_bytes(), body].concat()).collect();
        let outcome = run(&stream, &cuts);
        prop_assert_eq!(outcome.fault, None);
        prop_assert!(outcome.passed == stream);
        let mut at = 0;
        for (head, body) in requests {
            for part in [head.len(), body.len()] {
                at += part;
                prop_assert!(outcome.steps.contains(&at), "no step ends at {}", at);
            }
        }
    }

    #[test]
    fn cuts_do_not_matter(stream in damaged_stream(), cuts in cuts()) {
        let (whole, cut) = (run(&stream, &[]), run(&stream, &cuts));
        prop_assert_eq!(whole.fault, cut.fault);
        // A piece of a broken body may have passed before the break was seen.
        if !matches!(whole.fault, Some(Fault::Body(_))) {
            prop_assert!(whole.passed == cut.passed);
        }
    }

    #[test]
    fn what_passes_means_one_thing(stream in damaged_stream(), cuts in cuts()) {
        let outcome = run(&stream, &cuts);
        for prefers_transfer_encoding in [false, true] {
            let messages = Reader { prefers_transfer_encoding }.messages(&outcome.passed);
            let messages = messages.map_err(TestCaseError::fail)?;
            for [start, head_end, end] in messages {
                prop_assert!(start == 0 || outcome.steps.contains(&start));
                let step = outcome.steps.iter().find(|step| **step > start);
                prop_assert_eq!(step, Some(&head_end));
                prop_assert!(outcome.steps.contains(&end));
            }
        }
    }
}
