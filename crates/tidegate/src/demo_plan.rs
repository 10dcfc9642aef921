//! Started with no argument at all: the one place that joins the demo to the process.

use std::net::TcpListener;

use crate::demo;
use crate::launch_plan::LaunchPlan;

/// Where a browser looks first.
const USUAL: &str = "127.0.0.1:8080";

/// The demo's configuration, and its backend beside it.
pub fn plan() -> Result<LaunchPlan, String> {
    let backend =
        demo::Backend::start().map_err(|error| format!("the demo's backend can't start ({error})"))?;
    let listen = free_address().map_err(|error| format!("no address to listen on ({error})"))?;
    let text = demo::config(&listen, &backend.addr().to_string());
    // The page shows the text that really runs.
    backend.publish(&text);
    let mut plan = LaunchPlan::from_memory("(tidegate demo)", text);
    plan.banner = Some(demo::banner(&format!("http://{listen}/")));
    plan.companion = Some(Box::new(backend));
    Ok(plan)
}

/// The usual address, or another port when somebody has it.
fn free_address() -> std::io::Result<String> {
    let probe = TcpListener::bind(USUAL).or_else(|_| TcpListener::bind("127.0.0.1:0"))?;
    Ok(probe.local_addr()?.to_string())
}
