//! The command line: nginx's letters with nginx's messages, and the subcommands nginx does not have.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::engine::LoadOptions;
use crate::error_log::STDERR;

/// Compiled in, as distributions have it.
pub const PREFIX: &str = "/etc/nginx/";
const MAIN_FILE: &str = "/etc/nginx/nginx.conf";
const ERROR_LOG: &str = "/var/log/nginx/error.log";
/// Where the pid file is when the configuration names none.
pub const PID_FILE: &str = "/run/nginx.pid";

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Started with nothing at all.
    Demo,
    /// Anything nginx can do.
    Nginx(Options),
    /// `proxy LISTEN BACKEND`.
    Proxy {
        /// As written.
        listen: String,
        /// As written.
        backend: String,
        /// `--print-config`: show the configuration instead of running it.
        print_config: bool,
    },
}

/// nginx's options.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `-?`, `-h`.
    pub help: bool,
    /// `-v`, and all that imply it.
    pub version: bool,
    /// `-V`.
    pub configure: bool,
    /// `-t`, `-T`.
    pub test: bool,
    /// `-T`.
    pub dump: bool,
    /// `-q`.
    pub quiet: bool,
    /// `-s`.
    pub signal: Option<Action>,
    prefix: Option<OsString>,
    error_log: Option<OsString>,
    main_file: Option<OsString>,
    directives: Option<OsString>,
}

/// What `-s` asks of the running monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Now.
    Stop,
    /// When the work is done.
    Quit,
    /// Log files anew.
    Reopen,
    /// The configuration anew.
    Reload,
}

/// Read the arguments behind the program's name. `as_nginx`: the program was called by that name, so nothing but
/// nginx's own command line is meant. The error is a line for stderr.
pub fn parse(arguments: &[OsString], as_nginx: bool) -> Result<Command, String> {
    if as_nginx {
        return options(arguments).map(Command::Nginx);
    }
    match arguments.first().map(|first| first.as_bytes()) {
        None => Ok(Command::Demo),
        Some(b"proxy") => proxy(&arguments[1..]),
        Some(b"--help") => Ok(Command::Nginx(Options { help: true, version: true, ..Options::default() })),
        Some(b"--version") => Ok(Command::Nginx(Options { version: true, ..Options::default() })),
        Some(_) => options(arguments).map(Command::Nginx),
    }
}

impl Options {
    /// Where the configuration is, as nginx puts prefix and names together.
    pub fn load_options(&self) -> LoadOptions {
        let prefix = self.prefix();
        let under_prefix = |name: &OsStr| prefix.join(name);
        let main_file = self.main_file.as_deref().unwrap_or(OsStr::new(MAIN_FILE));
        let error_log = match self.error_log.as_deref() {
            // As a distribution's package under its prefix, as nginx's own layout under another.
            None if prefix == Path::new(PREFIX) => PathBuf::from(ERROR_LOG),
            None => prefix.join("logs/error.log"),
            Some(name) if name.is_empty() || name == STDERR => PathBuf::from(STDERR),
            Some(name) => under_prefix(name),
        };
        LoadOptions {
            main_file: under_prefix(main_file),
            directives: self.directives.as_ref().map(|text| text.to_string_lossy().into_owned()),
            error_log,
            test_only: self.test,
            prefix,
        }
    }

    fn prefix(&self) -> PathBuf {
        let mut bytes = self.prefix.as_deref().unwrap_or(OsStr::new(PREFIX)).as_bytes().to_vec();
        if !bytes.is_empty() && !bytes.ends_with(b"/") {
            bytes.push(b'/');
        }
        PathBuf::from(OsString::from_vec(bytes))
    }
}

/// The text of `-h`, below the version.
pub fn help() -> String {
    format!(
        "Usage: nginx [-?hvVtTq] [-s signal] [-p prefix]
             [-e filename] [-c filename] [-g directives]

Options:
  -?,-h         : this help
  -v            : show version and exit
  -V            : show version and configure options then exit
  -t            : test configuration and exit
  -T            : test configuration, dump it and exit
  -q            : suppress non-error messages during configuration testing
  -s signal     : send signal to a master process: stop, quit, reopen, reload
  -p prefix     : set prefix path (default: {PREFIX})
  -e filename   : set error log file (default: {ERROR_LOG})
  -c filename   : set configuration file (default: {MAIN_FILE})
  -g directives : set global directives out of configuration file

Beyond nginx:
  tidegate                        : a demo, nothing else needed
  tidegate proxy LISTEN BACKEND   : one backend without a file (:8080 localhost:3000)
           --print-config         : show the configuration this is, do not run it

"
    )
}

fn proxy(arguments: &[OsString]) -> Result<Command, String> {
    const USAGE: &str =
        "usage: tidegate proxy LISTEN BACKEND [--print-config], like: tidegate proxy :8080 localhost:3000";
    let mut print_config = false;
    let mut words = Vec::new();
    for argument in arguments {
        match argument.to_str() {
            Some("--print-config") => print_config = true,
            Some(word) if !word.starts_with('-') => words.push(word.to_owned()),
            _ => return Err(format!("invalid option: \"{}\"\n{USAGE}", argument.to_string_lossy())),
        }
    }
    match <[String; 2]>::try_from(words) {
        Ok([listen, backend]) => Ok(Command::Proxy { listen, backend, print_config }),
        Err(_) => Err(USAGE.to_owned()),
    }
}

fn options(arguments: &[OsString]) -> Result<Options, String> {
    let mut options = Options::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let letters = argument.as_bytes().strip_prefix(b"-").ok_or_else(|| invalid(argument))?;
        letter_group(letters, &mut rest, &mut options)?;
    }
    Ok(options)
}

/// One argument: letters without a value may stand together, the last may take the rest or the next argument.
fn letter_group<'a>(
    mut letters: &[u8],
    rest: &mut impl Iterator<Item = &'a OsString>,
    options: &mut Options,
) -> Result<(), String> {
    while let Some((letter, behind)) = letters.split_first() {
        letters = behind;
        let mut value = |needs: &str| match behind {
            [] => rest
                .next()
                .cloned()
                .ok_or_else(|| format!("option \"-{}\" requires {needs}", *letter as char)),
            behind => Ok(OsStr::from_bytes(behind).to_owned()),
        };
        match letter {
            b'?' | b'h' => (options.help, options.version) = (true, true),
            b'v' => options.version = true,
            b'V' => (options.configure, options.version) = (true, true),
            b't' => options.test = true,
            b'T' => (options.test, options.dump) = (true, true),
            b'q' => options.quiet = true,
            b'p' => return value("directory name").map(|value| options.prefix = Some(value)),
            b'e' => return value("file name").map(|value| options.error_log = Some(value)),
            b'c' => return value("file name").map(|value| options.main_file = Some(value)),
            b'g' => return value("parameter").map(|value| options.directives = Some(value)),
            b's' => {
                return value("parameter")
                    .and_then(|value| action(&value))
                    .map(|it| options.signal = Some(it));
            }
            // A byte of a longer character would break the line: shown as the replacement character.
            letter => return Err(format!("invalid option: \"{}\"", String::from_utf8_lossy(&[*letter]))),
        }
    }
    Ok(())
}

fn action(word: &OsStr) -> Result<Action, String> {
    match word.as_bytes() {
        b"stop" => Ok(Action::Stop),
        b"quit" => Ok(Action::Quit),
        b"reopen" => Ok(Action::Reopen),
        b"reload" => Ok(Action::Reload),
        _ => Err(format!("invalid option: \"-s {}\"", word.to_string_lossy())),
    }
}

fn invalid(argument: &OsStr) -> String {
    format!("invalid option: \"{}\"", argument.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').filter(|word| !word.is_empty()).map(OsString::from).collect()
    }

    fn refused(line: &str, message: &str) {
        assert_eq!(parse(&words(line), true), Err(message.to_owned()), "{line}");
    }

    /// Recorded from nginx 1.31.
    #[test]
    fn what_nginx_refuses() {
        refused("-x", "invalid option: \"x\"");
        refused("foo", "invalid option: \"foo\"");
        refused("proxy :80 a", "invalid option: \"proxy\"");
        refused("-tx", "invalid option: \"x\"");
        refused("-c", "option \"-c\" requires file name");
        refused("-p", "option \"-p\" requires directory name");
        refused("-e", "option \"-e\" requires file name");
        refused("-g", "option \"-g\" requires parameter");
        refused("-s", "option \"-s\" requires parameter");
        refused("-s foo", "invalid option: \"-s foo\"");
        refused("-sfoo", "invalid option: \"-s foo\"");
        refused("--help", "invalid option: \"-\"");
    }

    fn accepted(line: &str) -> Options {
        match parse(&words(line), true) {
            Ok(Command::Nginx(options)) => options,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn letters_stand_alone_or_together() {
        let options = accepted("-tqV -g x;");
        assert!(options.test && options.quiet && options.configure && options.version && !options.dump);
        assert!(accepted("-T").dump && accepted("-T").test);
        assert!(accepted("-h").help && accepted("-?").help);
        assert_eq!(accepted("-sreload").signal, Some(Action::Reload));
        assert_eq!(accepted("-s quit").signal, Some(Action::Quit));
        assert_eq!(accepted(""), Options::default());
    }

    fn check_places(line: &str, main_file: &str, error_log: &str) {
        let options = accepted(line).load_options();
        assert_eq!(options.main_file, PathBuf::from(main_file), "{line}");
        assert_eq!(options.error_log, PathBuf::from(error_log), "{line}");
    }

    #[test]
    fn names_are_put_together_as_nginx_does() {
        check_places("", MAIN_FILE, ERROR_LOG);
        check_places("-c a.conf", "/etc/nginx/a.conf", ERROR_LOG);
        check_places("-p t", MAIN_FILE, "t/logs/error.log");
        check_places("-p t -c a.conf -e e.log", "t/a.conf", "t/e.log");
        check_places("-p t/ -ca.conf -estderr", "t/a.conf", STDERR);
        check_places("-p /x/ -c /a.conf -e /e.log", "/a.conf", "/e.log");
        let prefix = accepted("-p /x").load_options().prefix;
        assert_eq!(prefix.as_os_str(), "/x/");
        assert_eq!(accepted("-g daemon%off;").load_options().directives.as_deref(), Some("daemon%off;"));
    }

    #[test]
    fn what_only_tidegate_understands() {
        assert_eq!(parse(&[], false), Ok(Command::Demo));
        assert_eq!(
            parse(&words("proxy :8080 --print-config localhost:3000"), false),
            Ok(Command::Proxy {
                listen: ":8080".into(),
                backend: "localhost:3000".into(),
                print_config: true
            })
        );
        assert!(parse(&words("proxy :8080"), false).unwrap_err().starts_with("usage: tidegate proxy"));
        assert!(parse(&words("proxy -x 1 2"), false).unwrap_err().starts_with("invalid option: \"-x\""));
        assert!(matches!(parse(&words("--help"), false), Ok(Command::Nginx(Options { help: true, .. }))));
    }
}
