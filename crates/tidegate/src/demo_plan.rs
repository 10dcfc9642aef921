//! Started with no argument at all: what the demo runs. Its parts are in the demo; this is the one place that joins
//! them to the process.

use crate::launch_plan::LaunchPlan;

/// The demo's configuration and what lives beside it.
pub fn plan() -> Result<LaunchPlan, String> {
    Err("no demo in this build; see -h".to_owned())
}
