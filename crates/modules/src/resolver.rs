//! `resolver`: names that are known only when a request is there, as in `proxy_pass http://$host`.
//!
//! The system's resolver is asked, not the addresses of the line: in a container and behind systemd it is the same one.
//! Answers carry no lifetime that way, so `valid=` decides how long they are good.

use http::config::{Args, Directive, Line, Merge, Module, ModuleConf, Problem, conf_of};
use http::set;
use upstream::{Address, Names, Resolver, parse_plain};

/// The module.
pub const MODULE: Module = Module {
    name: "resolver",
    doc: "Names that are looked up while requests are served.",
    directives: &[
        Directive {
            name: "resolver",
            args: Args::AtLeast(1),
            doc: "Lets names be looked up while requests are served; the system's resolver is asked.",
            set: set!(Raw, |raw, line| resolver(raw, line)),
            ..Directive::NONE
        },
        Directive {
            name: "resolver_timeout",
            default: "30s",
            doc: "Longest time to look a name up.",
            set: set!(Raw, |raw, line| line.once(&mut raw.timeout_ms, line.time()?)),
            ..Directive::NONE
        },
    ],
    conf: Some(conf_of::<Raw>()),
    ..Module::NONE
};

/// How long an answer is good when `valid=` doesn't say it, milliseconds.
const VALID_MS: u64 = 30_000;

/// What one block wrote.
#[derive(Default)]
pub struct Raw {
    resolver: Option<Resolver>,
    timeout_ms: Option<u64>,
}

impl ModuleConf for Raw {
    type Merged = Names;

    fn merge(self, outer: &Names, _at: &mut Merge<'_>) -> Result<Names, Problem> {
        Ok(Names {
            resolver: self.resolver.or(outer.resolver),
            timeout_ms: self.timeout_ms.unwrap_or(outer.timeout_ms),
        })
    }
}

fn resolver(raw: &mut Raw, line: &mut Line<'_>) -> Result<(), Problem> {
    let mut resolver = Resolver { valid_ms: VALID_MS, ipv4: true, ipv6: true };
    let mut has_address = false;
    for index in 0..line.count() {
        let text = line.text(index);
        let invalid = || Problem::new(format!("invalid parameter: {text}")).at(line.word(index));
        match text.split_once('=') {
            Some(("valid", value)) => {
                let seconds = conf::value::time_s(value.as_bytes()).ok_or_else(invalid)?;
                resolver.valid_ms = seconds.saturating_mul(1000);
            }
            Some(("ipv4", value @ ("on" | "off"))) => resolver.ipv4 = value == "on",
            Some(("ipv6", value @ ("on" | "off"))) => resolver.ipv6 = value == "on",
            Some(("ipv4" | "ipv6", _)) => return Err(invalid()),
            Some(("status_zone", _)) => {}
            _ => {
                server(line, index)?;
                has_address = true;
            }
        }
    }
    if !has_address {
        return Err(Problem::new("no name servers defined"));
    }
    if !resolver.ipv4 && !resolver.ipv6 {
        return Err(Problem::new("\"ipv4\" and \"ipv6\" cannot both be \"off\""));
    }
    line.once(&mut raw.resolver, resolver)?;
    line.warn("\"resolver\": the system's resolver is asked, not these addresses");
    Ok(())
}

/// A name server's address; it is not asked, and still nginx would not start without it.
fn server(line: &Line<'_>, index: usize) -> Result<(), Problem> {
    let text = line.text(index);
    let wrong = |why: &str| Problem::new(format!("{why} in resolver \"{text}\"")).at(line.word(index));
    match parse_plain(&text, 53).map_err(wrong)? {
        Address::Host { name, port } if line.world().resolve(&name, port).is_err() => {
            Err(wrong("host not found"))
        }
        _ => Ok(()),
    }
}
