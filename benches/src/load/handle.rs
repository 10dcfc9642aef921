//! The measuring process's hold on the load process.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::orders::{Order, Ran};
use crate::machine::Core;

/// A running load process; it ends with this value.
pub(crate) struct Load {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// The backend's loopback ports.
    pub(crate) ports: Vec<u16>,
}

impl Load {
    /// Starts it on its core with a backend on so many ports.
    pub(crate) fn start(core: Core, ports: usize) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["load-process", &ports.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = core.spawn(&mut command)?;
        let orders = child.stdin.take();
        let mut answers = BufReader::new(child.stdout.take().expect("stdout was piped"));
        let mut line = String::new();
        answers.read_line(&mut line)?;
        let ports = serde_json::from_str(&line)?;
        Ok(Self { child, orders, answers, ports })
    }

    /// Gives an order and waits for its answer.
    pub(crate) fn order(&mut self, order: &Order) -> io::Result<Ran> {
        let orders = self.orders.as_mut().expect("open until drop");
        writeln!(orders, "{}", serde_json::to_string(order)?)?;
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err(io::Error::other("the load process ended"));
        }
        serde_json::from_str::<Result<Ran, String>>(&line)?.map_err(io::Error::other)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // The end of its orders ends it.
        self.orders = None;
        let _ = self.child.wait();
    }
}
