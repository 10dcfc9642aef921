//! Lines of nginx's language that do not work here and are accepted all the same (DESIGN D14) are read as nginx reads
//! them: a file with a mistake in them would be refused there, and a typo in `gzip on` is worth a message today.
//!
//! A [`Shape`] is what nginx's tables say of a directive, how many arguments and of which kind.

use conf::Span;
use http::config::{Answer, Args, BlockKind, Context, Directive, Install, Line, Problem, Setter};
use http::set;

type Result<T> = std::result::Result<T, Problem>;

/// How a directive without effect is read.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    args: Args,
    default: &'static str,
    read: Setter,
    block: bool,
}

impl Shape {
    /// The directive of that shape.
    pub(crate) const fn line(self, name: &'static str, at: Context, answer: Answer) -> Directive {
        let Shape { args, default, read, block } = self;
        let block = if block { Some(BlockKind::Skipped) } else { None };
        Directive { name, at, answer, args, default, block, set: read, ..Directive::NONE }
    }

    /// The same, for one that means nothing new when it says `off`.
    const fn or_off(self) -> Shape {
        Shape { default: "off", ..self }
    }
}

/// What a block wrote of all such directives: their names, and the bits of those that gather words.
#[derive(Default)]
struct Seen(Vec<(String, u32)>);

impl Seen {
    fn first(&mut self, line: &Line<'_>) -> Result<()> {
        if self.0.iter().any(|(name, _)| *name == line.name()) {
            return Err(line.duplicate());
        }
        self.0.push((line.name(), 0));
        Ok(())
    }

    fn words(&mut self, line: &mut Line<'_>, names: &[&str]) -> Result<()> {
        let at = self.0.iter().position(|(name, _)| *name == line.name()).unwrap_or_else(|| {
            self.0.push((line.name(), 0));
            self.0.len() - 1
        });
        self.0[at].1 = line.mask(self.0[at].1, names)?;
        Ok(())
    }
}

/// A directive that may be written once in a block.
macro_rules! once {
    ($args:expr, |$line:ident| $check:expr) => {
        Shape {
            args: $args,
            default: "",
            read: set!(Seen, |seen, $line| {
                seen.first($line)?;
                $check.map(drop)
            }),
            block: false,
        }
    };
}

/// A directive whose words come from a list and add up over lines.
macro_rules! words {
    ($names:expr) => {
        Shape {
            args: Args::AtLeast(1),
            default: "",
            read: set!(Seen, |seen, line| seen.words(line, &$names)),
            block: false,
        }
    };
}

/// A directive that may be written as often as one likes.
macro_rules! often {
    ($args:expr, |$line:ident| $check:expr) => {
        Shape { args: $args, default: "", read: set!(|$line| $check), block: false }
    };
}

/// For those that are refused, where arguments don't matter.
pub(crate) const LINE: Shape = often!(Args::AtLeast(0), |_line| Ok(()));
/// The same, when `off` is no reason to refuse a file.
pub(crate) const LINE_OFF: Shape = LINE.or_off();
pub(crate) const BLOCK: Shape = Shape { block: true, ..LINE };
pub(crate) const FLAG: Shape = once!(Args::Flag, |line| line.flag());
/// A flag that is off when nothing is written.
pub(crate) const FLAG_OFF: Shape = FLAG.or_off();
pub(crate) const NUMBER: Shape = once!(Args::ONE, |line| line.number(0..=u64::MAX));
pub(crate) const SIZE: Shape = once!(Args::ONE, |line| line.size());
pub(crate) const OFFSET: Shape = once!(Args::ONE, |line| line.offset());
pub(crate) const TIME: Shape = once!(Args::ONE, |line| line.time());
pub(crate) const SECONDS: Shape = once!(Args::ONE, |line| match conf::value::time_s(line.bytes(0)) {
    Some(_) => Ok(()),
    None => Err(line.invalid_value(0, "")),
});
pub(crate) const TEXT: Shape = once!(Args::ONE, |line| Ok::<_, Problem>(line));
pub(crate) const TEXT_OR_OFF: Shape = TEXT.or_off();
pub(crate) const TEMPLATE: Shape = once!(Args::ONE, |line| line.template(0));
pub(crate) const BUFFERS: Shape = once!(Args::Exactly(2), |line| buffers(line));
pub(crate) const ANY_ONE: Shape = often!(Args::ONE, |_line| Ok(()));
pub(crate) const ANY: Shape = often!(Args::AtLeast(1), |_line| Ok(()));
pub(crate) const NOTHING: Shape = often!(Args::NONE, |_line| Ok(()));
pub(crate) const TEMPLATES: Shape = often!(Args::AtLeast(1), |line| templates(line));

pub(crate) const AIO: Shape = once!(Args::ONE, |line| aio(line)).or_off();
pub(crate) const AUTOINDEX_FORMAT: Shape =
    once!(Args::ONE, |line| line.one_of(0, &["html", "json", "jsonp", "xml"]));
pub(crate) const CACHE: Shape = once!(Args::ONE, |line| cache(line)).or_off();
pub(crate) const CACHE_METHODS: Shape = words!(["GET", "HEAD", "POST"]);
pub(crate) const CACHE_PATH: Shape = often!(Args::AtLeast(2), |line| cache_path(line));
pub(crate) const CACHE_STALE: Shape = words!([
    "error",
    "timeout",
    "invalid_header",
    "non_idempotent",
    "updating",
    "http_500",
    "http_502",
    "http_503",
    "http_504",
    "http_403",
    "http_404",
    "http_429",
    "off"
])
.or_off();
pub(crate) const CACHE_VALID: Shape = often!(Args::AtLeast(1), |line| cache_valid(line));
pub(crate) const CHUNK_SIZE: Shape = once!(Args::ONE, |line| match line.size()? {
    0 => Err(Problem::new("the http2 chunk size cannot be zero").at(line.word(0))),
    _ => Ok(()),
});
pub(crate) const COMP_LEVEL: Shape = once!(Args::ONE, |line| within(line, 1, 9));
pub(crate) const DEBUG_POINTS: Shape = once!(Args::ONE, |line| line.one_of(0, &["stop", "abort"]));
pub(crate) const DIRECTIO: Shape = once!(Args::ONE, |line| match line.bytes(0) {
    b"off" => Ok(0),
    _ => line.offset(),
})
.or_off();
pub(crate) const GZIP_DISABLE: Shape = often!(Args::AtLeast(1), |line| patterns(line));
pub(crate) const GZIP_HASH: Shape = once!(Args::ONE, |line| power(line, 512, 128 * 1024));
pub(crate) const GZIP_PROXIED: Shape = words!([
    "off",
    "expired",
    "no-cache",
    "no-store",
    "private",
    "no_last_modified",
    "no_etag",
    "auth",
    "any"
])
.or_off();
pub(crate) const GZIP_STATIC: Shape =
    once!(Args::ONE, |line| line.one_of(0, &["off", "on", "always"])).or_off();
pub(crate) const GZIP_WINDOW: Shape = once!(Args::ONE, |line| power(line, 512, 32 * 1024));
pub(crate) const HTTP_VERSION: Shape = once!(Args::ONE, |line| line.one_of(0, &["1.0", "1.1"]));
/// nginx warns of these, too.
pub(crate) const OBSOLETE: Shape = ANY_ONE;
pub(crate) const OPEN_FILE_CACHE: Shape = once!(Args::Between(1, 2), |line| file_cache(line)).or_off();
pub(crate) const OPEN_LOG_FILE_CACHE: Shape =
    once!(Args::Between(1, 4), |line| log_file_cache(line)).or_off();
pub(crate) const POOL_SIZE: Shape = once!(Args::ONE, |line| pool_size(line));
pub(crate) const POWER_OF_TWO: Shape = once!(Args::ONE, |line| power_of_two(line));
pub(crate) const PRIORITY: Shape = once!(Args::ONE, |line| priority(line));
pub(crate) const SATISFY: Shape = once!(Args::ONE, |line| line.one_of(0, &["all", "any"]));
pub(crate) const SEND_LOWAT: Shape = once!(Args::ONE, |line| send_lowat(line));
pub(crate) const STORE_ACCESS: Shape = once!(Args::Between(1, 3), |line| access(line));
pub(crate) const TEMP_PATH: Shape = once!(Args::Between(1, 4), |line| temp_path(line));
pub(crate) const THREAD_POOL: Shape = often!(Args::Between(2, 3), |line| thread_pool(line));
pub(crate) const PREREAD_SIZE: Shape = once!(Args::ONE, |line| match line.size()? {
    ..=PREREAD_BYTES_MAX => Ok(()),
    _ => {
        let message = format!("the maximum body preread buffer size is {PREREAD_BYTES_MAX}");
        Err(Problem::new(message).at(line.word(0)))
    }
});
pub(crate) const RECV_BUFFER_SIZE: Shape = once!(Args::ONE, |line| match line.size()? {
    ..=16 => {
        let message = format!("\"{}\" directive value is too small", line.name());
        Err(Problem::new(message).at(line.word(0)))
    }
    _ => Ok(()),
});
pub(crate) const TYPES: Shape = ANY;
pub(crate) const USE: Shape = once!(Args::ONE, |line| event_type(line));
pub(crate) const WORKER_CPU_AFFINITY: Shape = once!(Args::AtLeast(1), |line| affinity(line));

pub(crate) const HASH: Shape = often!(Args::Between(1, 2), |line| hash(line));
pub(crate) const LEAST_TIME: Shape = often!(Args::Between(1, 2), |line| least_time(line));
pub(crate) const RANDOM: Shape = often!(Args::Between(0, 2), |line| random(line));
pub(crate) const STICKY: Shape = often!(Args::AtLeast(2), |line| sticky(line));

/// The largest window of HTTP/2.
const PREREAD_BYTES_MAX: usize = (1 << 31) - 1;

/// Names of which a file may have one of each.
#[derive(Default)]
struct Names {
    thread_pools: Vec<String>,
    /// Directories of caches, and the lines they are from.
    cache_paths: Vec<(String, u32)>,
    /// Zones of caches and their sizes; 0 if only their use was read.
    cache_zones: Vec<(String, u64)>,
}

/// Reports caches whose zone no line defines.
pub(crate) fn check_zones(install: &mut Install<'_>) {
    for (name, size) in std::mem::take(&mut install.registry().of::<Names>().cache_zones) {
        if size == 0 {
            let problem = Problem::new(format!("zero size shared memory zone \"{name}\""));
            install.error(Span::default(), problem.placeless());
        }
    }
}

fn cache(line: &mut Line<'_>) -> Result<()> {
    if line.bytes(0) != b"off" && !line.template(0)?.varies() {
        let name = line.text(0);
        let zones = &mut line.registry().of::<Names>().cache_zones;
        if zones.iter().all(|(have, _)| *have != name) {
            zones.push((name, 0));
        }
    }
    Ok(())
}

/// Number and size of buffers, neither of them zero.
pub(crate) fn buffers(line: &Line<'_>) -> Result<(usize, usize)> {
    let number = conf::value::number(line.bytes(0)).and_then(|number| usize::try_from(number).ok());
    let number = number.filter(|number| *number > 0);
    let number = number.ok_or_else(|| line.invalid_value(0, "first comes the number of buffers"))?;
    match line.size_at(1)? {
        0 => Err(line.invalid_value(1, "a buffer cannot be empty")),
        size => Ok((number, size)),
    }
}

fn templates(line: &mut Line<'_>) -> Result<()> {
    for index in 0..line.count() {
        line.template(index)?;
    }
    Ok(())
}

fn patterns(line: &mut Line<'_>) -> Result<()> {
    for index in 0..line.count() {
        let text = line.bytes(index).to_vec();
        line.pattern(&text, true)?;
    }
    Ok(())
}

fn aio(line: &mut Line<'_>) -> Result<()> {
    match line.bytes(0) {
        b"on" | b"off" | b"threads" => Ok(()),
        [b't', b'h', b'r', b'e', b'a', b'd', b's', b'=', pool @ ..] => {
            let pool = pool.to_vec();
            line.template_text(&pool).map(drop)
        }
        _ => Err(line.invalid_value(0, "it is on, off, threads or threads=pool")),
    }
}

/// No Linux has it.
fn send_lowat(line: &mut Line<'_>) -> Result<()> {
    line.size()?;
    line.warn(format!("\"{}\" is not supported, ignored", line.name()));
    Ok(())
}

fn within(line: &Line<'_>, low: u64, high: u64) -> Result<()> {
    match line.number(0..=u64::MAX)? {
        number if (low..=high).contains(&number) => Ok(()),
        _ => Err(Problem::new(format!("value must be between {low} and {high}")).at(line.word(0))),
    }
}

fn pool_size(line: &Line<'_>) -> Result<()> {
    match line.size()? {
        ..112 => Err(Problem::new("the pool size must be no less than 112").at(line.word(0))),
        size if size % 16 != 0 => {
            Err(Problem::new("the pool size must be a multiple of 16").at(line.word(0)))
        }
        _ => Ok(()),
    }
}

/// A size that is a power of two, as zlib wants it.
fn power(line: &Line<'_>, least: usize, most: usize) -> Result<()> {
    let size = line.size()?;
    if size.is_power_of_two() && (least..=most).contains(&size) {
        return Ok(());
    }
    let sizes = std::iter::successors(Some(least), |size| Some(size * 2)).take_while(|size| *size < most);
    let shown = |size: usize| if size < 1024 { size.to_string() } else { format!("{}k", size / 1024) };
    let sizes: Vec<String> = sizes.map(shown).collect();
    let message = format!("\"{}\" directive must be {}, or {}", line.name(), sizes.join(", "), shown(most));
    Err(Problem::new(message).at(line.word(0)))
}

fn power_of_two(line: &Line<'_>) -> Result<()> {
    if line.number(0..=u64::MAX)?.is_power_of_two() {
        return Ok(());
    }
    Err(Problem::new(format!("\"{}\" directive must be a power of two", line.name())).at(line.word(0)))
}

fn priority(line: &Line<'_>) -> Result<()> {
    let text = line.bytes(0);
    let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    match conf::value::number(digits) {
        Some(_) => Ok(()),
        None => {
            let message = format!("\"{}\" directive invalid number", line.name());
            Err(Problem::new(message).at(line.word(0)))
        }
    }
}

fn event_type(line: &Line<'_>) -> Result<()> {
    match line.bytes(0) {
        b"epoll" | b"poll" | b"select" => Ok(()),
        _ => Err(Problem::new(format!("invalid event type \"{}\"", line.text(0)))
            .at(line.word(0))
            .note("on Linux there are epoll, poll and select; epoll is used here")),
    }
}

fn affinity(line: &Line<'_>) -> Result<()> {
    let auto = line.bytes(0) == b"auto";
    if auto && line.count() > 2 {
        return Err(Problem::new(format!("invalid number of arguments in \"{}\" directive", line.name())));
    }
    for index in usize::from(auto)..line.count() {
        if line.bytes(index).len() > 1024 {
            return Err(
                Problem::new("\"worker_cpu_affinity\" supports up to 1024 CPUs only").at(line.word(index))
            );
        }
        if let Some(&wrong) = line.bytes(index).iter().rev().find(|byte| !b"01 ".contains(byte)) {
            let message = format!("invalid character \"{}\" in \"worker_cpu_affinity\"", char::from(wrong));
            return Err(Problem::new(message).at(line.word(index)));
        }
    }
    Ok(())
}

fn thread_pool(line: &mut Line<'_>) -> Result<()> {
    let mut threads = false;
    for index in 1..line.count() {
        let text = line.text(index);
        let number = |value: &str| conf::value::number(value.as_bytes());
        let wrong =
            |what: &str| Problem::new(format!("invalid {what} value \"{text}\"")).at(line.word(index));
        match text.split_once('=') {
            Some(("threads", value)) => {
                number(value).filter(|count| *count > 0).ok_or_else(|| wrong("threads"))?;
                threads = true;
            }
            Some(("max_queue", value)) => drop(number(value).ok_or_else(|| wrong("max_queue"))?),
            _ => {}
        }
    }
    if !threads {
        return Err(Problem::new("\"thread_pool\" must have \"threads\" parameter"));
    }
    let name = line.text(0);
    let pools = &mut line.registry().of::<Names>().thread_pools;
    if pools.contains(&name) {
        return Err(Problem::new(format!("duplicate thread pool \"{name}\"")));
    }
    pools.push(name);
    Ok(())
}

/// In nginx's words `name` stands in both messages, once with an article more.
fn file_cache(line: &Line<'_>) -> Result<()> {
    let max = cache_parameters(line, &["max", "inactive"])?;
    if max { Ok(()) } else { Err(Problem::new("\"open_file_cache\" must have the \"max\" parameter")) }
}

fn log_file_cache(line: &Line<'_>) -> Result<()> {
    let max = cache_parameters(line, &["max", "inactive", "min_uses", "valid"])?;
    if max { Ok(()) } else { Err(Problem::new("\"open_log_file_cache\" must have \"max\" parameter")) }
}

/// Whether the parameters are enough.
fn cache_parameters(line: &Line<'_>, names: &[&str]) -> Result<bool> {
    let mut enough = false;
    for index in 0..line.count() {
        let text = line.text(index);
        let good = match text.split_once('=') {
            None => text == "off",
            Some((name, _)) if !names.contains(&name) => false,
            Some(("max", value)) => conf::value::number(value.as_bytes()).is_some_and(|max| max > 0),
            Some(("min_uses", value)) => conf::value::number(value.as_bytes()).is_some(),
            Some((_, value)) => conf::value::time_s(value.as_bytes()).is_some(),
        };
        if !good {
            let message = format!("invalid \"{}\" parameter \"{text}\"", line.name());
            return Err(Problem::new(message).at(line.word(index)));
        }
        enough |= text == "off" || text.starts_with("max=");
    }
    Ok(enough)
}

fn temp_path(line: &Line<'_>) -> Result<()> {
    let mut length = 0;
    for index in 1..line.count() {
        let level = conf::value::number(line.bytes(index)).filter(|level| (1..=10).contains(level));
        length += 1 + level.ok_or_else(|| line.invalid_value(index, "digits of a directory's name: 1, 2"))?;
    }
    if length > 10 + line.count() as u64 - 1 {
        return Err(line.invalid_value(line.count() - 1, "the directories' names are too long in all"));
    }
    Ok(())
}

fn access(line: &Line<'_>) -> Result<()> {
    for index in 0..line.count() {
        let text = line.text(index);
        if !matches!(text.split_once(':'), Some(("user" | "group" | "all", "rw" | "r"))) {
            return Err(Problem::new(format!("invalid value \"{text}\"")).at(line.word(index)));
        }
    }
    Ok(())
}

fn cache_valid(line: &Line<'_>) -> Result<()> {
    let last = line.count() - 1;
    if conf::value::time_s(line.bytes(last)).is_none() {
        return Err(Problem::new(format!("invalid time value \"{}\"", line.text(last))).at(line.word(last)));
    }
    for index in 0..last {
        let status = conf::value::number(line.bytes(index)).filter(|status| (100..=599).contains(status));
        if line.bytes(index) != b"any" && status.is_none() {
            return Err(Problem::new(format!("invalid status \"{}\"", line.text(index))).at(line.word(index)));
        }
    }
    Ok(())
}

fn cache_path(line: &mut Line<'_>) -> Result<()> {
    let mut zone = None;
    for index in 1..line.count() {
        let text = line.text(index);
        let (name, value) = text.split_once('=').unwrap_or((&text, ""));
        let bytes = value.as_bytes();
        let wrong = |what: String| Problem::new(format!("invalid {what}")).at(line.word(index));
        let good = match name {
            "levels" if levels(value) => true,
            "levels" => return Err(wrong(format!("\"levels\" \"{text}\""))),
            "use_temp_path" if matches!(value, "on" | "off") => true,
            "use_temp_path" => {
                return Err(wrong(format!("{name} value \"{text}\", it must be \"on\" or \"off\"")));
            }
            "keys_zone" => {
                zone = keys_zone(line, index, value)?;
                true
            }
            "inactive" => conf::value::time_s(bytes).is_some(),
            "max_size" | "min_free" => conf::value::offset(bytes).is_some(),
            "loader_files" | "manager_files" => conf::value::number(bytes).is_some(),
            "loader_sleep" | "loader_threshold" | "manager_sleep" | "manager_threshold" => {
                conf::value::time_ms(bytes).is_some()
            }
            _ => return Err(line.invalid_parameter(index)),
        };
        if !good {
            return Err(wrong(format!("{name} value \"{text}\"")));
        }
    }
    let (zone, size) =
        zone.ok_or_else(|| Problem::new("\"proxy_cache_path\" must have \"keys_zone\" parameter"))?;
    cache_zone(line, &zone, size)?;
    let (path, at) = (line.path(0).display().to_string(), line.span().line);
    let path = path.strip_suffix('/').unwrap_or(&path).to_owned();
    let paths = &mut line.registry().of::<Names>().cache_paths;
    if let Some((_, first)) = paths.iter().find(|(have, _)| *have == path) {
        return Err(Problem::new(format!("the same path name \"{path}\" used in line {first} and")));
    }
    paths.push((path, at));
    Ok(())
}

fn cache_zone(line: &mut Line<'_>, name: &str, size: u64) -> Result<()> {
    let zones = &mut line.registry().of::<Names>().cache_zones;
    match zones.iter_mut().find(|(have, _)| have == name) {
        None => zones.push((name.to_owned(), size)),
        Some((_, have @ 0)) => *have = size,
        Some((_, have)) if *have == size => {
            return Err(Problem::new(format!("duplicate zone \"{name}\"")));
        }
        Some((_, have)) => {
            return Err(Problem::new(format!(
                "the size {size} of shared memory zone \"{name}\" conflicts with already declared size {have}"
            )));
        }
    }
    Ok(())
}

fn levels(value: &str) -> bool {
    let parts: Vec<&str> = value.split(':').collect();
    value.is_empty() || parts.len() <= 3 && parts.iter().all(|part| matches!(*part, "1" | "2"))
}

/// The zone's name and size, if it has a name.
fn keys_zone(line: &Line<'_>, index: usize, value: &str) -> Result<Option<(String, u64)>> {
    let text = line.text(index);
    let zone =
        value.split_once(':').and_then(|(name, size)| Some((name, conf::value::size(size.as_bytes())?)));
    match zone {
        None => Err(Problem::new(format!("invalid keys zone size \"{text}\"")).at(line.word(index))),
        Some((_, ..8192)) => {
            Err(Problem::new(format!("keys zone \"{text}\" is too small")).at(line.word(index)))
        }
        Some((name, size)) => Ok((!name.is_empty()).then(|| (name.to_owned(), size))),
    }
}

fn hash(line: &mut Line<'_>) -> Result<()> {
    line.template(0)?;
    if line.count() == 2 && line.bytes(1) != b"consistent" { Err(line.invalid_parameter(1)) } else { Ok(()) }
}

fn least_time(line: &mut Line<'_>) -> Result<()> {
    if line.count() == 2 && line.bytes(1) != b"inflight" {
        return Err(line.invalid_parameter(1));
    }
    line.one_of(0, &["header", "last_byte"]).map(drop)
}

fn random(line: &mut Line<'_>) -> Result<()> {
    if line.count() > 0 && line.bytes(0) != b"two" {
        return Err(line.invalid_parameter(0));
    }
    if line.count() > 1 && line.bytes(1) != b"least_conn" {
        return Err(line.invalid_parameter(1));
    }
    Ok(())
}

fn sticky(line: &Line<'_>) -> Result<()> {
    match line.bytes(0) {
        b"cookie" | b"route" | b"learn" => Ok(()),
        _ => Err(Problem::new(format!("unknown parameter \"{}\"", line.text(0))).at(line.word(0))),
    }
}
