//! What the scenarios over wss are made of: the site, its visitors, and what each of them does there.

pub(crate) mod chromium;
pub(crate) mod clients;
pub(crate) mod site;
pub(crate) mod visit;
