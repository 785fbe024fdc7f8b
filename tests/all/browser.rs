//! The report in a real browser: Chromium, without a window, driven by the DevTools protocol over two pipes.
//!
//! `POLYARCH_TEST_PAGES` names a folder in which the pages and pictures of them stay, to be looked at.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::program::{Place, program, skip, variable};
use crate::reports::Run;

/// What Debian calls it, and others.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// What is wrong with a page as it stands, as a list of words: it is wider than the window, text cannot be read for want of contrast
/// (WCAG 2.2, §1.4.3), or something that is gone to with the keyboard has no name.
const FAULTS: &str = include_str!("browser/faults.js");

/// A browser with one page.
struct Browser {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    last: u64,
    session: Option<String>,
    /// What the page complained of.
    complaints: Vec<String>,
    _profile: tempfile::TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Browser {
    /// `None` where this machine has none.
    fn start() -> Option<Self> {
        let path = variable("PATH").unwrap_or_default();
        let name = NAMES
            .iter()
            .find(|name| std::env::split_paths(&path).any(|folder| folder.join(name).exists()))?;
        let profile = tempfile::tempdir().unwrap();
        let pipes = "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1";
        let mut child = program("sh")
            .args([
                "-c",
                pipes,
                "browser",
                name,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--remote-debugging-pipe",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut browser =
            Self { child, to, from, last: 0, session: None, complaints: Vec::new(), _profile: profile };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}))["targetId"].clone();
        let session = browser.call("Target.attachToTarget", json!({"targetId": target, "flatten": true}));
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    /// Call a method of the protocol, and wait for its result.
    fn call(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let message = self.next();
            if message["id"] == self.last {
                assert_eq!(message["error"], Value::Null, "{method}");
                return message["result"].clone();
            }
        }
    }

    fn next(&mut self) -> Value {
        let mut message = Vec::new();
        self.from.read_until(0, &mut message).unwrap();
        assert_eq!(message.pop(), Some(0), "the browser is gone");
        let message: Value = serde_json::from_slice(&message).unwrap();
        if matches!(message["method"].as_str(), Some("Log.entryAdded" | "Runtime.exceptionThrown")) {
            self.complaints.push(message["params"].to_string());
        }
        message
    }

    fn go_to(&mut self, page: &Path) {
        let gone = self.call("Page.navigate", json!({"url": format!("file://{}", page.display())}));
        assert_eq!(gone["errorText"], Value::Null, "{}", page.display());
        while self.next()["method"] != "Page.loadEventFired" {}
    }

    fn window(&mut self, width: u32, scheme: &str) {
        let metrics = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", metrics);
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", features);
    }

    /// The value of an expression of the page.
    fn value(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", asked);
        assert_eq!(answer["exceptionDetails"], Value::Null, "{expression}");
        answer["result"]["value"].clone()
    }

    /// Wait until a condition of the page holds.
    #[track_caller]
    fn until(&mut self, condition: &str) {
        let look = format!(
            "new Promise((done) => {{
                const look = (left) => {condition} || !left ? done({condition}) : setTimeout(look, 20, left - 1);
                look(500);
            }})"
        );
        assert_eq!(self.value(&look), true, "{condition}");
    }

    fn press(&mut self, key: &str) {
        let code = if key == "Tab" { 9 } else { 13 };
        for kind in ["keyDown", "keyUp"] {
            let text = if key == "Enter" { "\r" } else { "" };
            let event =
                json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text});
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    fn picture(&mut self, file: &Path) {
        let picture = self.call("Page.captureScreenshot", json!({"format": "png"}));
        let bytes = BASE64_STANDARD.decode(picture["data"].as_str().unwrap()).unwrap();
        assert!(bytes.len() > 5_000, "an empty picture");
        std::fs::write(file, bytes).unwrap();
    }
}

/// The reports of runs of so many jobs, in files.
struct Pages {
    folder: PathBuf,
    _own: tempfile::TempDir,
}

impl Pages {
    fn make() -> Self {
        let own = tempfile::tempdir().unwrap();
        let folder = variable("POLYARCH_TEST_PAGES").map_or_else(|| own.path().to_owned(), PathBuf::from);
        std::fs::create_dir_all(&folder).unwrap();
        Self { folder, _own: own }
    }

    fn report(&self, jobs: usize) -> PathBuf {
        let place = Place::with(&[("base/Dockerfile", "FROM scratch\n")]);
        Run::of_family(jobs).stands_in(&place, "made-up");
        let file = self.folder.join(format!("{jobs}-jobs.html"));
        let answer = place.run(&["report", "--format", "html", "--output", file.to_str().unwrap()]);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        file
    }
}

#[test]
fn the_page_can_be_read_at_every_width_by_day_and_by_night() {
    let Some(mut browser) = Browser::start() else { return skip("browser", "there is no Chromium") };
    let pages = Pages::make();
    let every: &[_] = &[(360, "light"), (360, "dark"), (1_440, "light"), (1_440, "dark")];
    for (jobs, windows) in [(28, every), (1_000, &[(360, "light"), (1_440, "dark")])] {
        let page = pages.report(jobs);
        for (width, scheme) in windows.iter().copied() {
            browser.window(width, scheme);
            browser.go_to(&page);
            let faults = browser.value(FAULTS);
            assert_eq!(faults, json!([]), "{jobs} jobs, {width} pixels, {scheme}");
            assert_eq!(browser.value("document.querySelectorAll('details.job').length"), jobs);
            browser.picture(&pages.folder.join(format!("{jobs}-jobs-{width}-{scheme}.png")));
        }
    }
    assert_eq!(browser.complaints, [""; 0], "the page breaks its own policy, or a script of it failed");
}

#[test]
fn a_page_that_is_too_wide_or_too_pale_is_found() {
    let Some(mut browser) = Browser::start() else { return skip("browser", "there is no Chromium") };
    let pages = Pages::make();
    browser.window(360, "light");
    for (fault, body) in [
        ("wide", "<p style='width:600px'>a</p>"),
        ("pale", "<p style='color:#aaa;background:#fff'>a</p>"),
        ("nameless", "<a href='#a'></a>"),
    ] {
        let file = pages.folder.join("faulty.html");
        std::fs::write(&file, format!("<!doctype html><body style='margin:0;background:#fff'>{body}"))
            .unwrap();
        browser.go_to(&file);
        let faults = browser.value(FAULTS);
        assert!(
            faults.as_array().unwrap().iter().any(|one| one.as_str().unwrap().starts_with(fault)),
            "{fault}: {faults}"
        );
    }
}

#[test]
fn the_page_is_used_with_the_keyboard_alone() {
    let Some(mut browser) = Browser::start() else { return skip("browser", "there is no Chromium") };
    let pages = Pages::make();
    let page = pages.report(28);
    browser.window(1_440, "light");
    browser.go_to(&page);
    browser.press("Tab");
    browser.until("document.activeElement.textContent === 'To the images'");
    // From an image of the graph to that image, opened.
    browser.value("document.querySelector('a.node').focus()");
    browser.press("Enter");
    browser.until("document.querySelectorAll('article.image:target details[open]').length === 2");
    // Only what failed.
    browser.value("document.getElementById('filter').focus()");
    browser.call("Input.insertText", json!({"text": "failed"}));
    browser.until("document.querySelectorAll('article.image:not([hidden])').length === 1");
    browser.until("document.querySelector('.filter output').textContent === '1 of 14'");
}
