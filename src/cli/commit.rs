//! The commit that a folder stands at, read from Git's own files.

use std::path::{Path, PathBuf};

/// The commit's first twelve digits; `None` outside a repository, or before the first commit.
pub(super) fn commit(root: &Path) -> Option<String> {
    whole_commit(root).map(|hash| hash[..12].to_owned())
}

/// All of its digits.
pub(super) fn whole_commit(root: &Path) -> Option<String> {
    let git = root.ancestors().find_map(git_folder)?;
    let head = std::fs::read_to_string(git.join("HEAD")).ok()?;
    let hash = match head.trim().strip_prefix("ref: ") {
        Some(name) => reference(&git, name)?,
        None => head.trim().to_owned(),
    };
    let whole = hash.len() >= 40 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    whole.then_some(hash)
}

/// The folder of the work tree that a folder is in, where it is in one.
pub(super) fn work_tree(root: &Path) -> Option<PathBuf> {
    root.ancestors().find(|folder| git_folder(folder).is_some()).map(Path::to_owned)
}

/// `.git` is a folder, or in a work tree a file that names one.
fn git_folder(folder: &Path) -> Option<PathBuf> {
    let git = folder.join(".git");
    if git.is_dir() {
        return Some(git);
    }
    let text = std::fs::read_to_string(&git).ok()?;
    Some(folder.join(text.trim().strip_prefix("gitdir: ")?))
}

/// A branch is a file, or a line of `packed-refs`; in a work tree they stand in the main repository.
fn reference(git: &Path, name: &str) -> Option<String> {
    let common = std::fs::read_to_string(git.join("commondir")).ok().map(|text| git.join(text.trim()));
    [Some(git.to_owned()), common].into_iter().flatten().find_map(|folder| {
        let own = std::fs::read_to_string(folder.join(name)).ok().map(|text| text.trim().to_owned());
        own.or_else(|| {
            let packed = std::fs::read_to_string(folder.join("packed-refs")).ok()?;
            packed.lines().find_map(|line| Some(line.strip_suffix(name)?.trim().to_owned()))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_read_from_branch_packed_and_detached_heads() {
        let folder = tempfile::tempdir().unwrap();
        let git = folder.path().join(".git");
        std::fs::create_dir_all(git.join("refs/heads")).unwrap();
        assert_eq!(commit(folder.path()), None);
        let hash = "0123456789abcdef0123456789abcdef01234567";
        std::fs::write(git.join("HEAD"), "ref: refs/heads/main\n").unwrap();
        assert_eq!(commit(folder.path()), None, "before the first commit");
        std::fs::write(git.join("packed-refs"), format!("# pack\n{hash} refs/heads/main\n")).unwrap();
        assert_eq!(commit(folder.path()).as_deref(), Some("0123456789ab"));
        std::fs::write(git.join("refs/heads/main"), format!("f{}\n", &hash[1..])).unwrap();
        assert_eq!(commit(folder.path()).as_deref(), Some("f123456789ab"));
        std::fs::write(git.join("HEAD"), format!("{hash}\n")).unwrap();
        assert_eq!(commit(&folder.path().join("a/b")).as_deref(), Some("0123456789ab"));
    }
}
