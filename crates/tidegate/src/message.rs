//! What monitor and serving process say to each other over their [`Channel`].

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use sys::listen::Address;
use sys::passing::{Bounds, Channel, Inbox, Message, Taken};
use tls::config::sessions::KeyBytes;

use crate::bundle::codec::{Reader, Writer, broken};
use crate::bundle::{Answer, Bundle, read_address, read_tickets, write_address, write_tickets};

/// The monitor's word.
#[derive(Debug)]
pub enum Order {
    /// Serve this configuration. Answered by [`Report::Ready`] or [`Report::Refused`].
    Install(u64, Box<Bundle>),
    /// Write to these log files from now on.
    Reopen(Vec<(PathBuf, OwnedFd)>),
    /// Session tickets are encrypted with these keys from now on.
    Tickets(Vec<KeyBytes>),
    /// The file that was asked for by [`Report::Wanted`].
    File(u64, Answer<Vec<u8>>),
    /// Finish and exit.
    Quit,
    /// Exit.
    Stop,
    /// An `Install` of this generation, or a `Reopen`, whose descriptors this process has no room for. Never sent.
    Bereft(Option<u64>),
}

/// The serving process's word.
#[derive(Debug, PartialEq, Eq)]
pub enum Report {
    /// This generation is served.
    Ready(u64),
    /// This generation can't be served; the one before still is.
    Refused(u64, String),
    /// The sockets of these addresses were accepted until empty and closed.
    ListenersClosed(Vec<Address>),
    /// A file that a directive names with variables. Answered by [`Order::File`] with the same number.
    Wanted(u64, PathBuf),
    /// There was no room for the descriptors of an `Install` of this generation, or of a `Reopen`; now there may be.
    Again(Option<u64>),
}

/// The longest report, in bytes: thousands of closed sockets' addresses, or what is wrong with a configuration.
pub const REPORT_BYTES_MAX: usize = 4 << 20;

impl Order {
    /// Send it. Blocks while the other end has no room, which only an `Install` can fill.
    pub fn send(&self, channel: &Channel) -> io::Result<()> {
        let mut out = Writer::default();
        match self {
            Self::Install(generation, bundle) => {
                out.number(1);
                out.number(*generation);
                bundle.write(&mut out);
                channel.send(&out.bytes, &bundle.fds())
            }
            Self::Reopen(logs) => {
                out.number(2);
                out.list(logs, |out, (path, _)| out.path(path));
                channel.send(&out.bytes, &logs.iter().map(|(_, fd)| fd.as_fd()).collect::<Vec<_>>())
            }
            Self::File(number, answer) => {
                out.number(5);
                out.number(*number);
                out.answer(answer, |out, bytes| out.blob(bytes));
                channel.send(&out.bytes, &[])
            }
            Self::Tickets(keys) => {
                out.number(6);
                write_tickets(&mut out, keys);
                channel.send(&out.bytes, &[])
            }
            Self::Quit => {
                out.number(3);
                channel.send(&out.bytes, &[])
            }
            Self::Stop => {
                out.number(4);
                channel.send(&out.bytes, &[])
            }
            Self::Bereft(_) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Wait for one; `None` when the monitor is gone.
    pub fn receive(channel: &Channel) -> io::Result<Option<Self>> {
        channel.recv()?.map(Self::read).transpose()
    }

    /// Take one if it is there.
    pub fn take(inbox: &mut Inbox, channel: &Channel) -> io::Result<Taken<Self>> {
        inbox.take(channel)?.try_map(Self::read)
    }

    fn read(Message { body, descriptors, is_bereft }: Message) -> io::Result<Self> {
        let mut input = Reader::new(&body);
        let kind = input.number()?;
        if is_bereft {
            return Ok(Self::Bereft((kind == 1).then(|| input.number()).transpose()?));
        }
        let order = match kind {
            1 => Self::Install(input.number()?, Box::new(Bundle::read(&mut input, descriptors)?)),
            2 => {
                let paths = input.list(Reader::path)?;
                if paths.len() != descriptors.len() {
                    return Err(broken());
                }
                Self::Reopen(paths.into_iter().zip(descriptors).collect())
            }
            3 => Self::Quit,
            4 => Self::Stop,
            5 => Self::File(input.number()?, input.answer(|input| Ok(input.blob()?.to_vec()))?),
            6 => Self::Tickets(read_tickets(&mut input)?),
            _ => return Err(broken()),
        };
        input.end()?;
        Ok(order)
    }
}

impl Report {
    /// Send it.
    pub fn send(&self, channel: &Channel) -> io::Result<()> {
        let mut out = Writer::default();
        match self {
            Self::Ready(generation) => {
                out.number(1);
                out.number(*generation);
            }
            Self::Refused(generation, why) => {
                out.number(2);
                out.number(*generation);
                out.text(why);
            }
            Self::ListenersClosed(addresses) => {
                out.number(3);
                out.list(addresses, write_address);
            }
            Self::Wanted(number, path) => {
                out.number(4);
                out.number(*number);
                out.path(path);
            }
            Self::Again(generation) => {
                out.number(5);
                // Generations are counted from 1.
                out.number(generation.unwrap_or_default());
            }
        }
        channel.send(&out.bytes, &[])
    }

    /// Take one if it is there. Nothing that a serving process sends makes the monitor wait, or take more than a report can be.
    pub fn take(inbox: &mut Inbox, channel: &Channel) -> io::Result<Taken<Self>> {
        inbox.take(channel)?.try_map(Self::read)
    }

    /// What reports come in through.
    pub fn inbox() -> Inbox {
        Inbox::new(Bounds { body_bytes_max: REPORT_BYTES_MAX, descriptors_max: 0 })
    }

    fn read(message: Message) -> io::Result<Self> {
        let mut input = Reader::new(&message.body);
        let report = match input.number()? {
            1 => Self::Ready(input.number()?),
            2 => Self::Refused(input.number()?, input.text()?),
            3 => Self::ListenersClosed(input.list(read_address)?),
            4 => Self::Wanted(input.number()?, input.path()?),
            5 => Self::Again(Some(input.number()?).filter(|number| *number > 0)),
            _ => return Err(broken()),
        };
        input.end()?;
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Refusal;

    fn check_report(report: Report) {
        let (near, far) = Channel::pair().unwrap();
        report.send(&near).unwrap();
        let mut inbox = Report::inbox();
        assert!(matches!(Report::take(&mut inbox, &far), Ok(Taken::Message(got)) if got == report));
        assert!(matches!(Report::take(&mut inbox, &far), Ok(Taken::Nothing)));
        drop(near);
        assert!(matches!(Report::take(&mut inbox, &far), Ok(Taken::Closed)));
    }

    #[test]
    fn reports_arrive_as_sent() {
        check_report(Report::Ready(7));
        check_report(Report::Refused(8, "no".into()));
        check_report(Report::ListenersClosed(vec![
            Address::Inet("[::1]:80".parse().unwrap()),
            Address::Unix("/x".into()),
        ]));
        check_report(Report::Wanted(9, "/etc/ssl/a.crt".into()));
        check_report(Report::Again(Some(9)));
        check_report(Report::Again(None));
    }

    #[test]
    fn a_file_arrives_or_why_not() {
        let (near, far) = Channel::pair().unwrap();
        let refused = Refusal::of(&std::io::Error::from_raw_os_error(13));
        for sent in [Ok(b"bytes".to_vec()), Err(refused)] {
            Order::File(7, sent.clone()).send(&near).unwrap();
            let Some(Order::File(7, got)) = Order::receive(&far).unwrap() else { panic!("another order") };
            assert_eq!(got, sent);
        }
    }

    #[test]
    fn ticket_keys_arrive() {
        let (near, far) = Channel::pair().unwrap();
        Order::Tickets(vec![[1; 80], [2; 80]]).send(&near).unwrap();
        let Some(Order::Tickets(keys)) = Order::receive(&far).unwrap() else { panic!("another order") };
        assert_eq!(keys, [[1; 80], [2; 80]]);
    }

    #[test]
    fn reopened_logs_arrive_open() {
        let (near, far) = Channel::pair().unwrap();
        let null = std::fs::File::options().append(true).open("/dev/null").unwrap();
        Order::Reopen(vec![("/log".into(), null.into())]).send(&near).unwrap();
        let Some(Order::Reopen(logs)) = Order::receive(&far).unwrap() else { panic!("another order") };
        assert_eq!(logs[0].0, PathBuf::from("/log"));
        rustix::io::write(&logs[0].1, b"x").unwrap();
    }
}
