//! Finds the program of a command, and judges who could put another in its place.
//!
//! Whoever can write to a program, or rename a directory on the way to it, has it do what they like
//! with the rights of whoever runs it. So everything on the way must belong to root or to the user
//! that runs it, symbolic links included, and be writable by nobody else.

use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// Most symbolic links on the way to a program, as the kernel has it.
const MOST_LINKS: usize = 40;
/// Where programs are looked up when the environment does not say.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a program is not run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Unfit {
    /// It is not there, or is no program.
    Missing(String),
    /// Others could put another in its place.
    Insecure(String),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Missing(why) | Self::Insecure(why)) = self;
        f.write_str(why)
    }
}

/// The path of `program`, which is looked up in `PATH` unless it has a `/`, as the user of number
/// `uid` would run it. A path that is not absolute begins at `/`, where commands are run.
///
/// # Errors
/// When it cannot be run; unless `insecure` when it must not be.
pub(crate) fn find(program: &str, uid: u32, insecure: bool) -> Result<PathBuf, Unfit> {
    let path = if program.contains('/') {
        Path::new("/").join(program)
    } else {
        let listed = std::env::var("PATH").unwrap_or_else(|_| USUAL_PATH.to_owned());
        let places = std::env::split_paths(&listed).map(|place| place.join(program));
        let mut there = places.filter(|place| place.is_absolute() && place.is_file());
        there.next().ok_or_else(|| Unfit::Missing(format!("there is no {program} in PATH")))?
    };
    let judged = walk(&path, uid);
    match judged {
        Ok(()) => Ok(path),
        Err(Unfit::Insecure(_)) if insecure => Ok(path),
        Err(unfit) => Err(unfit),
    }
}

/// Goes the way that the kernel goes, and looks at each thing on it.
fn walk(path: &Path, uid: u32) -> Result<(), Unfit> {
    let mut insecure = None;
    let mut note = |place: &Path, metadata: &Metadata| {
        if let Some(why) = complaint(metadata, uid) {
            insecure.get_or_insert_with(|| {
                format!("others could replace {}: {} {why}", path.display(), place.display())
            });
        }
    };
    let missing = |place: &Path, error: &io::Error| {
        Unfit::Missing(match error.kind() {
            // What a link leads to may have another name.
            io::ErrorKind::NotFound if !path.starts_with(place) => {
                format!("there is no {}, to which {} leads", place.display(), path.display())
            }
            io::ErrorKind::NotFound => format!("there is no {}", path.display()),
            _ => format!("{}: {error}", place.display()),
        })
    };
    let mut done = PathBuf::from("/");
    let mut ahead = steps(path);
    let mut links = 0;
    let mut metadata = fs::symlink_metadata(&done).map_err(|error| missing(&done, &error))?;
    note(&done, &metadata);
    while let Some(step) = ahead.pop() {
        match step {
            Step::Up => {
                done.pop();
                metadata = fs::symlink_metadata(&done).map_err(|error| missing(&done, &error))?;
            }
            Step::Into(name) => {
                let place = done.join(name);
                let found =
                    fs::symlink_metadata(&place).map_err(|error| missing(&place, &error))?;
                note(&place, &found);
                if !found.is_symlink() {
                    (done, metadata) = (place, found);
                    continue;
                }
                links += 1;
                if links > MOST_LINKS {
                    return Err(Unfit::Missing(format!("{} has too many links", path.display())));
                }
                let target = fs::read_link(&place).map_err(|error| missing(&place, &error))?;
                if target.is_absolute() {
                    done = PathBuf::from("/");
                    metadata =
                        fs::symlink_metadata(&done).map_err(|error| missing(&done, &error))?;
                }
                ahead.extend(steps(&target));
            }
        }
    }
    if !metadata.is_file() {
        return Err(Unfit::Missing(format!("{} is no file", path.display())));
    }
    if metadata.mode() & 0o111 == 0 {
        return Err(Unfit::Missing(format!("{} is not executable", path.display())));
    }
    match insecure {
        Some(why) => Err(Unfit::Insecure(why)),
        None => Ok(()),
    }
}

enum Step {
    Into(std::ffi::OsString),
    Up,
}

/// The parts of a path, the last one first.
fn steps(path: &Path) -> Vec<Step> {
    let step = |part: Component<'_>| match part {
        Component::Normal(name) => Some(Step::Into(name.to_owned())),
        Component::ParentDir => Some(Step::Up),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(step).collect()
}

/// What lets others replace a thing or what is in it. In a directory with the sticky bit everybody
/// may make new things, and nobody may rename or remove those of others.
fn complaint(metadata: &Metadata, uid: u32) -> Option<String> {
    let owner = metadata.uid();
    if owner != 0 && owner != uid {
        return Some(format!("belongs to user {owner}"));
    }
    let mode = metadata.mode();
    // The mode of a link means nothing.
    let sticky_directory = metadata.is_dir() && mode & 0o1000 != 0;
    if metadata.is_symlink() || sticky_directory {
        return None;
    }
    if mode & 0o002 != 0 {
        return Some(format!("is writable by everybody (mode {:04o})", mode & 0o7777));
    }
    // Whoever is in root's group is trusted with root's files everywhere.
    if mode & 0o020 != 0 && metadata.gid() != 0 {
        let group = metadata.gid();
        return Some(format!("is writable by group {group} (mode {:04o})", mode & 0o7777));
    }
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    /// A directory with a program in it, below a directory of everybody's with the sticky bit.
    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            let place = Self(tempfile::tempdir().unwrap());
            fs::write(place.program(), "#!/bin/sh\n").unwrap();
            set_mode(&place.program(), 0o755);
            place
        }

        fn program(&self) -> PathBuf {
            self.0.path().join("hook")
        }

        fn judge(&self) -> Result<(), String> {
            judge(&self.program())
        }
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn own_uid() -> u32 {
        nix::unistd::Uid::effective().as_raw()
    }

    fn judge(path: &Path) -> Result<(), String> {
        find(path.to_str().unwrap(), own_uid(), false)
            .map(|found| assert_eq!(found, path))
            .map_err(|unfit| unfit.to_string())
    }

    #[test]
    fn a_program_that_nobody_else_can_touch_is_run() {
        assert_eq!(Place::new().judge(), Ok(()));
        assert!(find("sh", own_uid(), false).unwrap().is_absolute());
    }

    #[test]
    fn a_program_that_everybody_can_write_to_is_refused_with_the_reason() {
        let place = Place::new();
        let program = place.program();
        set_mode(&program, 0o757);
        let path = program.display();
        let why =
            format!("others could replace {path}: {path} is writable by everybody (mode 0757)");
        assert_eq!(place.judge(), Err(why));
        let found = find(program.to_str().unwrap(), own_uid(), true);
        assert_eq!(found, Ok(program), "unless that is allowed");
    }

    #[test]
    fn so_is_one_in_a_directory_that_everybody_can_write_to() {
        let place = Place::new();
        set_mode(place.0.path(), 0o777);
        assert!(place.judge().unwrap_err().contains("is writable by everybody (mode 0777)"));
        set_mode(place.0.path(), 0o1777);
        assert_eq!(place.judge(), Ok(()), "the sticky bit keeps others from renaming it");
    }

    #[test]
    fn a_link_is_followed_and_what_it_leads_through_is_judged() {
        let (place, other) = (Place::new(), Place::new());
        let link = place.0.path().join("link");
        symlink("../hook/../link2", &link).unwrap();
        let why = judge(&link).unwrap_err();
        assert!(why.starts_with("there is no ") && why.ends_with("link leads"), "{why}");
        fs::remove_file(&link).unwrap();
        symlink(other.program(), &link).unwrap();
        assert_eq!(judge(&link), Ok(()));
        set_mode(other.0.path(), 0o777);
        assert!(judge(&link).unwrap_err().contains("is writable by everybody"));
    }

    #[test]
    fn links_in_a_circle_have_an_end() {
        let place = Place::new();
        let link = place.0.path().join("link");
        symlink(&link, &link).unwrap();
        assert!(judge(&link).unwrap_err().ends_with("has too many links"));
    }

    #[test]
    fn what_belongs_to_somebody_else_is_refused_unless_they_run_it_themselves() {
        if own_uid() != 0 {
            eprintln!("skipped: this needs to be root");
            return;
        }
        let place = Place::new();
        chown(place.program(), Some(4001), None).unwrap();
        assert!(place.judge().unwrap_err().ends_with("belongs to user 4001"));
        assert!(find(place.program().to_str().unwrap(), 4001, false).is_ok());
        chown(place.program(), Some(0), Some(4001)).unwrap();
        set_mode(&place.program(), 0o775);
        assert!(place.judge().unwrap_err().ends_with("is writable by group 4001 (mode 0775)"));
    }

    #[test]
    fn what_is_missing_or_no_program_is_told() {
        let place = Place::new();
        let program = place.program();
        set_mode(&program, 0o644);
        assert_eq!(place.judge(), Err(format!("{} is not executable", program.display())));
        assert!(judge(place.0.path()).unwrap_err().ends_with(" is no file"));
        assert_eq!(
            judge(Path::new("/nonexistent/hook")),
            Err("there is no /nonexistent/hook".to_owned())
        );
        let found = find("no-such-program", own_uid(), false);
        assert_eq!(found, Err(Unfit::Missing("there is no no-such-program in PATH".to_owned())));
    }
}
