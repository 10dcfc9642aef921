//! What to run: a configuration from disk or from memory, and how the process behaves around it.

use std::any::Any;
use std::path::PathBuf;

use crate::engine::LoadOptions;
use crate::world::DiskWorld;

/// Everything decided before the monitor starts.
pub struct LaunchPlan {
    /// Which configuration.
    pub options: LoadOptions,
    /// The main file's text when it is on no disk; `options.main_file` is then only a name for messages.
    pub text: Option<String>,
    /// Stay in the foreground and write no pid file, whatever the configuration says: somebody is watching.
    pub attached: bool,
    /// Said on stderr once connections are accepted.
    pub banner: Option<String>,
    /// Lives as long as the monitor (the demo's backend).
    pub companion: Option<Box<dyn Any>>,
}

impl LaunchPlan {
    /// A configuration on disk.
    pub fn from_disk(options: LoadOptions) -> Self {
        Self { options, text: None, attached: false, banner: None, companion: None }
    }

    /// A configuration in memory, called `name` in messages.
    pub fn from_memory(name: &str, text: String) -> Self {
        let options = LoadOptions {
            main_file: PathBuf::from(name),
            prefix: PathBuf::from(crate::command_line::PREFIX),
            error_log: PathBuf::from(crate::error_log::STDERR),
            ..LoadOptions::default()
        };
        Self { options, text: Some(text), attached: true, banner: None, companion: None }
    }

    /// The outside to load it against.
    pub fn world(&self) -> DiskWorld {
        match &self.text {
            Some(text) => DiskWorld::with_file(&self.options.main_file, text),
            None => DiskWorld::default(),
        }
    }
}
