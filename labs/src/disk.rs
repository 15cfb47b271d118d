//! A small disk for one process, so that it can be filled: a tmpfs below the folder of the run.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::LabError;
use crate::netns::World;

/// What fills it.
const FILLER: &str = "filler";

/// Room for one process's state, not for the memory of this machine.
pub(crate) const MB_MAX: u32 = 256;

/// Where the disk of a process is.
pub(crate) fn folder(run: &Path, node: &str, process: &str) -> PathBuf {
    run.join(format!("{node}-{process}.disk"))
}

/// Makes it; it goes with the world.
pub(crate) fn make(world: &World, folder: &Path, mb: u32) -> Result<(), LabError> {
    fs::create_dir_all(folder).map_err(|source| LabError::io("create", folder, source))?;
    let size = format!("size={mb}m,mode=755");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("lab"), folder, Some("tmpfs"), flags, Some(size.as_str()))
        .map_err(|source| LabError::io("mount", folder, io::Error::from(source)))?;
    let folder = folder.to_owned();
    world.on_teardown(move || {
        if let Err(error) = umount2(&folder, MntFlags::MNT_DETACH) {
            tracing::warn!(folder = %folder.display(), %error, "cannot unmount");
        }
    });
    Ok(())
}

/// Writes until no octet fits any more.
pub(crate) fn fill(folder: &Path) -> Result<(), LabError> {
    let path = folder.join(FILLER);
    let failed = |source| LabError::io("fill", &path, source);
    let mut file = File::create(&path).map_err(failed)?;
    let mut size = 1 << 20;
    while size > 0 {
        match file.write(&vec![0; size]) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::StorageFull => size /= 2,
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

/// Gives the room back; harmless when it was not full.
pub(crate) fn free(folder: &Path) -> Result<(), LabError> {
    let path = folder.join(FILLER);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(LabError::io("remove", &path, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}
