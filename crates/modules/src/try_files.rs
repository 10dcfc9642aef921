//! `try_files`: the first file that is there, else somewhere else.

use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use http::config::{Args, Context, Directive, Install, Line, Merge, Module, ModuleConf, Problem, conf_of};
use http::log::Level;
use http::{Flow, Phase, Redirect, Request, Template, files, set};
use rustix::io::Errno;

/// nginx's `ngx_http_try_files_module`.
pub static MODULE: Module = Module {
    name: "try_files",
    doc: "Looks for files in order.",
    directives: &[Directive {
        name: "try_files",
        at: Context::SERVER.or(Context::LOCATION),
        args: Args::AtLeast(2),
        doc: "Serves the first of these files that exists; the last is a URI, a named location or `=code`.",
        set: set!(Raw, |raw, line| {
            let tries = tries(line)?;
            line.once(&mut raw.tries, tries)
        }),
        ..Directive::NONE
    }],
    conf: Some(conf_of::<Raw>()),
    install: Some(|conf, install| {
        if let Ok(conf) = conf.clone().downcast::<Conf>()
            && conf.tries.is_some()
        {
            put_in(conf, install);
        }
    }),
    ..Module::NONE
};

/// What a block wrote.
#[derive(Default)]
pub struct Raw {
    tries: Option<Tries>,
}

/// What holds in a block; nothing is inherited.
#[derive(Default)]
pub struct Conf {
    tries: Option<Tries>,
}

struct Tries {
    files: Vec<Try>,
    last: Last,
}

struct Try {
    name: Template,
    /// Written with a slash at its end: a directory.
    is_directory: bool,
}

enum Last {
    Uri(Template),
    Code(u16),
}

impl ModuleConf for Raw {
    type Merged = Conf;

    fn merge(self, _outer: &Conf, _at: &mut Merge<'_>) -> Result<Conf, Problem> {
        Ok(Conf { tries: self.tries })
    }

    fn inherit(_outer: &Arc<Conf>, _at: &mut Merge<'_>) -> Arc<Conf> {
        Arc::default()
    }
}

fn put_in(conf: Arc<Conf>, install: &mut Install<'_>) {
    install.handler(Phase::Precontent, move |request| match &conf.tries {
        Some(tries) => tries.run(request),
        None => Flow::Next,
    });
}

impl Tries {
    fn run(&self, request: &mut Request) -> Flow {
        let alias = request.location().core.alias;
        let root = files::document_root(request);
        for file in &self.files {
            let mut name = file.name.value(request);
            if let Some(cut) = alias.filter(|cut| *cut != usize::MAX)
                && file.name.varies()
                && name.get(..cut) == request.uri.get(..cut)
            {
                name.drain(..cut);
            }
            if is_there(request, &[&root[..], &name[..]].concat(), file.is_directory) {
                match alias {
                    None => request.uri = name,
                    Some(usize::MAX) => {}
                    Some(cut) => {
                        request.uri.truncate(cut);
                        request.uri.extend_from_slice(&name);
                    }
                }
                return Flow::Next;
            }
        }
        match &self.last {
            Last::Code(code) => Flow::Status(*code),
            Last::Uri(uri) => elsewhere(uri.value(request)),
        }
    }
}

fn elsewhere(mut uri: Vec<u8>) -> Flow {
    if uri.first() == Some(&b'@') {
        return Flow::Redirect(Redirect::Named(uri));
    }
    match uri.iter().position(|byte| *byte == b'?') {
        None => Flow::Redirect(Redirect::Uri(uri, Vec::new())),
        Some(at) => {
            let args = uri.split_off(at);
            Flow::Redirect(Redirect::Uri(uri, args[1..].to_vec()))
        }
    }
}

fn is_there(request: &Request, path: &[u8], is_directory: bool) -> bool {
    match std::fs::metadata(std::ffi::OsStr::from_bytes(path)) {
        Ok(found) => found.is_dir() == is_directory,
        Err(error) => {
            if !matches!(
                Errno::from_io_error(&error),
                Some(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG)
            ) {
                let (path, text) = (String::from_utf8_lossy(path), sys::errno::text(&error));
                request.log(Level::Crit, format_args!("stat() \"{path}\" failed ({text})"));
            }
            false
        }
    }
}

fn tries(line: &mut Line<'_>) -> Result<Tries, Problem> {
    let last = line.count() - 1;
    let mut files = Vec::new();
    for index in 0..last {
        let text = line.bytes(index).to_vec();
        let (name, is_directory) = match text.strip_suffix(b"/") {
            Some(name) => (name, true),
            None => (&text[..], false),
        };
        files.push(Try { name: line.template_text(name)?, is_directory });
    }
    let last = match line.bytes(last).strip_prefix(b"=") {
        None => Last::Uri(line.template(last)?),
        Some(code) => {
            let code = conf::value::number(code)
                .and_then(|code| u16::try_from(code).ok())
                .filter(|code| *code <= 999);
            Last::Code(code.ok_or_else(|| {
                Problem::new(format!("invalid code \"{}\"", line.text(last))).at(line.word(last))
            })?)
        }
    };
    Ok(Tries { files, last })
}
