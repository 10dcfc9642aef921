//! What the monitor hands to the serving process: everything a configuration opened, as bytes and descriptors.
//!
//! The serving process has no right to open a key, a password file or a log, and after the drop of privileges could
//! not. It loads the same configuration from these answers alone, so both processes read the very same bytes even when
//! a file changes between the two loads.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use sys::listen::Address;
use tls::config::sessions::KeyBytes;

use crate::credentials::Identity;
use crate::engine::LoadOptions;

pub(crate) mod codec;
use codec::{Reader, Writer, broken};

/// An answer the outside gave, success or failure, so that it can be given again.
pub type Answer<T> = Result<T, Refusal>;

/// A failure that can be stored and sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// errno, where there was one.
    pub code: Option<i32>,
    /// The text of an error without errno.
    pub text: String,
}

impl Refusal {
    /// Keep `error`.
    pub fn of(error: &io::Error) -> Self {
        Self { code: error.raw_os_error(), text: error.to_string() }
    }

    /// The error again.
    pub fn error(&self) -> io::Error {
        match self.code {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::other(self.text.clone()),
        }
    }
}

/// What was asked while a configuration was loaded, and what came back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// Contents by path as asked.
    pub files: BTreeMap<PathBuf, Answer<Vec<u8>>>,
    /// Matches by mask.
    pub globs: BTreeMap<PathBuf, Answer<Vec<PathBuf>>>,
    /// Addresses by host and port.
    pub hosts: BTreeMap<(String, u16), Answer<Vec<SocketAddr>>>,
}

/// The whole hand-over of one configuration.
#[derive(Debug)]
pub struct Bundle {
    /// How to load it.
    pub options: LoadOptions,
    /// What the loading may ask.
    pub answers: Arc<Answers>,
    /// What session tickets are encrypted with; the first encrypts.
    pub tickets: Vec<KeyBytes>,
    /// Who to become; `None` keeps the identity.
    pub identity: Option<Identity>,
    /// Log files, open to append.
    pub logs: Vec<(PathBuf, OwnedFd)>,
    /// Listening sockets the serving process does not have yet.
    pub sockets: Vec<(Address, OwnedFd)>,
}

impl Bundle {
    /// Everything but the descriptors, which travel beside it in the order of [`Bundle::fds`].
    pub(crate) fn write(&self, out: &mut Writer) {
        write_options(out, &self.options);
        write_answers(out, &self.answers);
        write_tickets(out, &self.tickets);
        out.option(self.identity.as_ref(), |out, identity| {
            out.text(&identity.name);
            out.number(u64::from(identity.uid));
            out.number(u64::from(identity.gid));
        });
        out.list(&self.logs, |out, (path, _)| out.path(path));
        out.list(&self.sockets, |out, (address, _)| write_address(out, address));
    }

    /// Logs first, then sockets.
    pub(crate) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let logs = self.logs.iter().map(|(_, fd)| fd.as_fd());
        logs.chain(self.sockets.iter().map(|(_, fd)| fd.as_fd())).collect()
    }

    /// The other end of [`Bundle::write`]; takes every descriptor of the message.
    pub(crate) fn read(input: &mut Reader<'_>, fds: Vec<OwnedFd>) -> io::Result<Self> {
        let options = read_options(input)?;
        let answers = Arc::new(read_answers(input)?);
        let tickets = read_tickets(input)?;
        let identity = input.option(|input| {
            let name = input.text()?;
            let (uid, gid) = (input.small()?, input.small()?);
            Ok(Identity { name, uid, gid })
        })?;
        let paths = input.list(Reader::path)?;
        let addresses = input.list(read_address)?;
        if paths.len() + addresses.len() != fds.len() {
            return Err(broken());
        }
        let mut fds = fds.into_iter();
        let logs = paths.into_iter().zip(fds.by_ref()).collect();
        Ok(Self {
            options,
            answers,
            tickets,
            identity,
            logs,
            sockets: addresses.into_iter().zip(fds).collect(),
        })
    }
}

fn write_options(out: &mut Writer, options: &LoadOptions) {
    out.path(&options.main_file);
    out.path(&options.prefix);
    out.option(options.directives.as_ref(), |out, text| out.text(text));
    out.path(&options.error_log);
    out.number(u64::from(options.test_only));
}

fn read_options(input: &mut Reader<'_>) -> io::Result<LoadOptions> {
    Ok(LoadOptions {
        main_file: input.path()?,
        prefix: input.path()?,
        directives: input.option(Reader::text)?,
        error_log: input.path()?,
        test_only: input.number()? != 0,
    })
}

fn write_answers(out: &mut Writer, answers: &Answers) {
    out.map(&answers.files, |out, path| out.path(path), |out, bytes| out.blob(bytes));
    out.map(
        &answers.globs,
        |out, mask| out.path(mask),
        |out, paths| out.list(paths, |out, path| out.path(path)),
    );
    out.map(
        &answers.hosts,
        |out, (host, port)| {
            out.text(host);
            out.number(u64::from(*port));
        },
        |out, addrs| out.list(addrs, |out, addr| out.text(&addr.to_string())),
    );
}

fn read_answers(input: &mut Reader<'_>) -> io::Result<Answers> {
    Ok(Answers {
        files: input.map(Reader::path, |input| Ok(input.blob()?.to_vec()))?,
        globs: input.map(Reader::path, |input| input.list(Reader::path))?,
        hosts: input
            .map(|input| Ok((input.text()?, input.small()?)), |input| input.list(Reader::socket_addr))?,
    })
}

pub(crate) fn write_tickets(out: &mut Writer, keys: &[KeyBytes]) {
    out.list(keys, |out, key| out.blob(key));
}

pub(crate) fn read_tickets(input: &mut Reader<'_>) -> io::Result<Vec<KeyBytes>> {
    input.list(|input| input.blob()?.try_into().map_err(|_| broken()))
}

pub(crate) fn write_address(out: &mut Writer, address: &Address) {
    match address {
        Address::Inet(address) => {
            out.number(0);
            out.text(&address.to_string());
        }
        Address::Unix(path) => {
            out.number(1);
            out.path(path);
        }
    }
}

pub(crate) fn read_address(input: &mut Reader<'_>) -> io::Result<Address> {
    match input.number()? {
        0 => Ok(Address::Inet(input.socket_addr()?)),
        1 => Ok(Address::Unix(input.path()?)),
        _ => Err(broken()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Bundle {
        let mut answers = Answers::default();
        answers.files.insert("/a.conf".into(), Ok(b"events {}".to_vec()));
        answers.files.insert(
            "/b".into(),
            Err(Refusal { code: Some(13), text: io::Error::from_raw_os_error(13).to_string() }),
        );
        answers.globs.insert("/*.conf".into(), Ok(vec!["/a.conf".into(), "/c.conf".into()]));
        answers.hosts.insert(("app".into(), 80), Ok(vec!["[::1]:80".parse().unwrap()]));
        answers.hosts.insert(("gone".into(), 1), Err(Refusal { code: None, text: "no such host".into() }));
        let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        Bundle {
            options: LoadOptions {
                main_file: "/a.conf".into(),
                prefix: "/".into(),
                directives: Some("daemon off;".into()),
                error_log: "/e.log".into(),
                test_only: false,
            },
            answers: Arc::new(answers),
            tickets: vec![[1; 80], [2; 80]],
            identity: Some(Identity { name: "nobody".into(), uid: 65534, gid: 65534 }),
            logs: vec![("/var/log/x".into(), null())],
            sockets: vec![
                (Address::Inet("127.0.0.1:80".parse().unwrap()), null()),
                (Address::Unix("/run/x".into()), null()),
            ],
        }
    }

    fn bytes(bundle: &Bundle) -> Vec<u8> {
        let mut out = Writer::default();
        bundle.write(&mut out);
        out.bytes
    }

    fn fds(bundle: Bundle) -> Vec<OwnedFd> {
        let logs = bundle.logs.into_iter().map(|(_, fd)| fd);
        logs.chain(bundle.sockets.into_iter().map(|(_, fd)| fd)).collect()
    }

    #[test]
    fn a_bundle_survives_the_way() {
        let sent = sample();
        let got = Bundle::read(&mut Reader::new(&bytes(&sent)), fds(sample())).unwrap();
        assert_eq!((got.options, got.answers, got.identity), (sent.options, sent.answers, sent.identity));
        assert_eq!(got.tickets, sent.tickets);
        assert_eq!(got.logs[0].0, sent.logs[0].0);
        let names =
            |sockets: &[(Address, OwnedFd)]| sockets.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&got.sockets), names(&sent.sockets));
    }

    #[test]
    fn a_truncated_or_mismatched_bundle_is_an_error() {
        let whole = bytes(&sample());
        for length in 0..whole.len() {
            assert!(Bundle::read(&mut Reader::new(&whole[..length]), fds(sample())).is_err(), "{length}");
        }
        let mut few = fds(sample());
        few.pop();
        assert!(Bundle::read(&mut Reader::new(&whole), few).is_err());
    }

    #[test]
    fn a_refusal_is_the_same_error_again() {
        let error = io::Error::from_raw_os_error(2);
        assert_eq!(Refusal::of(&error).error().raw_os_error(), Some(2));
        assert_eq!(Refusal::of(&io::Error::other("x")).error().to_string(), "x");
    }
}
