//! Every head that `examples/record.rs` showed a real nginx is answered here as nginx answered it.

use tidegate_wire::http1::{HeadLimits, RequestHead, Resume, Step, request};

const RECORDED: &str = include_str!("../testdata/nginx-1.31.tsv");

fn limits(profile: &str) -> HeadLimits {
    let plain = HeadLimits::default();
    match profile {
        "plain" => plain,
        "lenient" => HeadLimits {
            underscores: true,
            ignore_invalid: false,
            merge_slashes: false,
            count_max: 5,
            ..plain
        },
        "small" => HeadLimits { first_buffer_bytes: 64, line_bytes_max: 512, buffers_max: 2, ..plain },
        _ => panic!("unknown profile {profile}"),
    }
}

/// What nginx would write into the row.
fn answer(input: &[u8], limits: &HeadLimits) -> String {
    let mut head = RequestHead::default();
    let result = request(input, &mut head, &mut Resume::default(), limits);
    let mut said: Vec<String> = head
        .dropped
        .iter()
        .map(|line| RequestHead::dropped_text(*line, input) + " while reading client request headers")
        .collect();
    let status = match result {
        Ok(Step::More) => return "more".to_string(),
        Ok(Step::Done(_)) => 200,
        Err(error) => {
            said.push(error.log_text(input));
            // 494 is for `error_page` alone.
            if error.status() == 494 { 400 } else { error.status() }
        }
    };
    let line = head.line.of(input).escape_ascii().to_string();
    let said = escaped(&said.join(" & "));
    if status != 200 {
        return [status.to_string(), line, said].join("\t");
    }
    let mut host = Vec::new();
    match head.host {
        Some(name) => name.lower_to(input, &mut host),
        None => host.extend_from_slice(b"fallback.test"),
    }
    let x: Vec<&[u8]> = head.fields.named(b"x", input).map(|field| field.value.of(input)).collect();
    let kept = match head.keepalive() {
        _ if head.protocol.is_empty() => "-",
        true => "keep-alive",
        false => "close",
    };
    let row: [&[u8]; 10] = [
        b"200",
        kept.as_bytes(),
        head.method_name.of(input),
        head.target.of(input),
        head.path(input),
        head.args(input),
        &host,
        &x.join(&b", "[..]),
        head.protocol.of(input),
        head.line.of(input),
    ];
    let row = row.map(|field| field.escape_ascii().to_string());
    format!("{}\t{said}", row.join("\t"))
}

#[test]
fn as_nginx() {
    let mut rows = 0;
    let mut wrong = Vec::new();
    for row in RECORDED.lines() {
        let mut columns = row.splitn(3, '\t');
        let (profile, input) = (columns.next().unwrap(), unescape(columns.next().unwrap()));
        let recorded = columns.next().unwrap();
        let columns: Vec<&str> = recorded.split('\t').collect();
        // Of a refused head, nginx's variables say what they happened to hold: only the line and the log are compared.
        let expected = match columns[..] {
            ["more"] => "more".to_string(),
            ["200", ..] => recorded.to_string(),
            [status, .., line, said] => [status, line, said].join("\t"),
            _ => panic!("row with too few columns: {row}"),
        };
        let (expected, found) = (lossy(&expected), answer(&input, &limits(profile)));
        if found != expected {
            wrong.push(format!("{profile} {}\n  nginx {expected}\n  ours  {found}", input.escape_ascii()));
        }
        rows += 1;
    }
    assert!(rows > 2000);
    assert!(wrong.is_empty(), "{} of {rows} rows differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// Our words are text: what is not stands there as a replacement character.
fn lossy(row: &str) -> String {
    let mut out = String::new();
    let (fields, said) = row.rsplit_once('\t').unwrap_or(("", row));
    let mut rest = said;
    while let Some(at) = rest.find("\\x") {
        let is_text = matches!(rest.as_bytes()[at + 2], b'0'..=b'7') || rest[..at].ends_with('\\');
        out.push_str(&rest[..at]);
        out.push_str(if is_text { &rest[at..at + 4] } else { "?" });
        rest = &rest[at + 4..];
    }
    if fields.is_empty() { out + rest } else { format!("{fields}\t{out}{rest}") }
}

fn escaped(said: &str) -> String {
    said.split('\u{fffd}')
        .map(|part| part.as_bytes().escape_ascii().to_string())
        .collect::<Vec<_>>()
        .join("?")
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = text.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        out.push(match bytes.next() {
            Some(b'r') => b'\r',
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'x') => {
                let pair = [bytes.next().unwrap(), bytes.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&pair).unwrap(), 16).unwrap()
            }
            Some(other) => other,
            None => panic!("a lone backslash"),
        });
    }
    out
}
