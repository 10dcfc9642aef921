//! Who the serving process becomes. The monitor looks the name up, so a wrong `user` fails a load and not a start.

use std::io;

use sys::credentials as database;

use crate::error_log::reason;

/// nginx's compiled-in user, as most builds have it.
const DEFAULT_USER: &str = "nobody";

/// A user and group that exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name, from which its other groups are looked up.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// The identity that `user` asks for. `None` without root: then nobody can change anything, as in nginx.
///
/// The error is nginx's message.
pub fn wanted(user: Option<&(String, Option<String>)>) -> Result<Option<Identity>, String> {
    if !database::is_root() {
        return Ok(None);
    }
    let (name, group) = match user {
        Some((name, group)) => (name.as_str(), group.as_deref()),
        None => (DEFAULT_USER, None),
    };
    let entry = found(database::user(name), "getpwnam", name)?;
    let gid = match group {
        Some(group) => found(database::group(group), "getgrnam", group)?.gid,
        // nginx looks for a group of the user's name; for the default that is `nogroup` here and `nobody` there.
        None if user.is_none() => entry.gid,
        None => found(database::group(name), "getgrnam", name)?.gid,
    };
    Ok(Some(Identity { name: entry.name, uid: entry.uid, gid }))
}

/// Become `identity` for good. Threads must not exist yet.
pub fn become_identity(identity: &Identity) -> Result<(), String> {
    let user = database::User { name: identity.name.clone(), uid: identity.uid, gid: identity.gid };
    database::become_user(&user, identity.gid)
        .map_err(|error| format!("{} failed {}", error.call, reason(&error.source)))
}

fn found<T>(answer: io::Result<Option<T>>, call: &str, name: &str) -> Result<T, String> {
    match answer {
        Ok(Some(entry)) => Ok(entry),
        Ok(None) => Err(format!("{call}(\"{name}\") failed")),
        Err(error) => Err(format!("{call}(\"{name}\") failed {}", reason(&error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_up_when_root() {
        let wanted = |user: &str, group: Option<&str>| wanted(Some(&(user.into(), group.map(Into::into))));
        if !database::is_root() {
            assert_eq!(wanted("no-such-user", None), Ok(None));
            return;
        }
        assert_eq!(wanted("root", None), Ok(Some(Identity { name: "root".into(), uid: 0, gid: 0 })));
        assert_eq!(wanted("no-such-user", None), Err("getpwnam(\"no-such-user\") failed".into()));
        assert_eq!(wanted("root", Some("no-such")), Err("getgrnam(\"no-such\") failed".into()));
    }
}
