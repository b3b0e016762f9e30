//! Who a user is, as the host knows them.

use std::ffi::CString;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::unistd::{Gid, Group, User, getgrouplist};

pub use lockstep_sys::child::{LifeLock, end_with_this_thread};
pub use lockstep_sys::identity::{Identity, run_as};
pub use lockstep_sys::pipe::unread;

/// A user of this host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Account {
    /// Number and groups.
    pub identity: Identity,
    /// Home directory.
    pub home: PathBuf,
}

/// A user cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// Nobody has the name.
    #[error("there is no user {0}")]
    Unknown(String),
    /// No group has the name.
    #[error("there is no group {0}")]
    UnknownGroup(String),
    /// The host's list of users cannot be read.
    #[error("failed to look up user {name}")]
    Unreadable {
        /// The name.
        name: String,
        /// Why.
        #[source]
        source: Errno,
    },
}

/// Looks a user up, with every group of theirs; `group` takes the place of the user's own. Where
/// users are kept on a server this may take long.
///
/// # Errors
/// When there is no such user or group, or the lists of users and groups cannot be read.
pub fn account(name: &str, group: Option<&str>) -> Result<Account, UserError> {
    let unreadable = |source| UserError::Unreadable { name: name.to_owned(), source };
    let user = User::from_name(name)
        .map_err(unreadable)?
        .ok_or_else(|| UserError::Unknown(name.to_owned()))?;
    let own = match group {
        None => user.gid,
        Some(group) => {
            let unreadable = |source| UserError::Unreadable { name: group.to_owned(), source };
            let found = Group::from_name(group).map_err(unreadable)?;
            found.ok_or_else(|| UserError::UnknownGroup(group.to_owned()))?.gid
        }
    };
    let in_c = CString::new(name).map_err(|_| UserError::Unknown(name.to_owned()))?;
    let groups = getgrouplist(&in_c, own).map_err(unreadable)?;
    let identity = Identity {
        uid: user.uid.as_raw(),
        gid: own.as_raw(),
        groups: groups.into_iter().map(Gid::as_raw).collect(),
    };
    Ok(Account { identity, home: user.dir })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_everywhere_with_its_group() {
        let root = account("root", None).unwrap();
        assert_eq!((root.identity.uid, root.identity.gid), (0, 0));
        assert!(root.identity.groups.contains(&0));
    }

    #[test]
    fn a_user_that_is_not_there_is_named() {
        let error = account("no-such-user", None).unwrap_err();
        assert_eq!(error.to_string(), "there is no user no-such-user");
        let error = account("root", Some("no-such-group")).unwrap_err();
        assert_eq!(error.to_string(), "there is no group no-such-group");
    }

    #[test]
    fn a_group_takes_the_place_of_the_users_own() {
        let root = account("root", Some("daemon")).unwrap();
        assert_ne!(root.identity.gid, 0);
        assert!(root.identity.groups.contains(&root.identity.gid));
    }
}
