//! Who a user is, as the host knows them.

use std::ffi::CString;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::unistd::{Gid, User, getgrouplist};

pub use lockstep_sys::identity::{Identity, run_as};

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

/// Looks a user up, with every group of theirs. Where users are kept on a server this may take long.
///
/// # Errors
/// When there is no such user, or the lists of users and groups cannot be read.
pub fn account(name: &str) -> Result<Account, UserError> {
    let unreadable = |source| UserError::Unreadable { name: name.to_owned(), source };
    let user = User::from_name(name)
        .map_err(unreadable)?
        .ok_or_else(|| UserError::Unknown(name.to_owned()))?;
    let in_c = CString::new(name).map_err(|_| UserError::Unknown(name.to_owned()))?;
    let groups = getgrouplist(&in_c, user.gid).map_err(unreadable)?;
    let identity = Identity {
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        groups: groups.into_iter().map(Gid::as_raw).collect(),
    };
    Ok(Account { identity, home: user.dir })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_everywhere_with_its_group() {
        let root = account("root").unwrap();
        assert_eq!((root.identity.uid, root.identity.gid), (0, 0));
        assert!(root.identity.groups.contains(&0));
    }

    #[test]
    fn a_user_that_is_not_there_is_named() {
        let error = account("no-such-user").unwrap_err();
        assert_eq!(error.to_string(), "there is no user no-such-user");
    }
}
