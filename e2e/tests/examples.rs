//! Every configuration in `examples/` is accepted.
#![forbid(unsafe_code)]

use std::fs;
use std::process::Command;

use tidegate_e2e::places;
use tidegate_e2e::temp::TempDir;

#[test]
fn every_example_is_accepted() {
    let examples = fs::read_dir(places::workspace().join("examples")).expect("examples/").flatten();
    let configs: Vec<_> = examples
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "conf"))
        .collect();
    assert!(!configs.is_empty(), "no example was found");
    let dir = TempDir::new();
    fs::create_dir_all(dir.path().join("logs")).expect("our own directory");
    for config in configs {
        let mut tidegate = Command::new(places::tidegate());
        tidegate
            .arg("-p")
            .arg(dir.path())
            .arg("-e")
            .arg(dir.path().join("error.log"))
            .arg("-t")
            .arg("-c")
            .arg(&config);
        let output = tidegate.output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{}: {said}", config.display());
        assert!(said.contains("test is successful"), "{}: {said}", config.display());
    }
}
