//! Network namespaces without a name: a child holds each one open, so that nothing is left of them when the test ends,
//! whichever way it ends.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdout, Command, Stdio};

/// A network namespace.
pub(crate) struct Space {
    /// `cat`, which ends at the end of its input: with the test.
    holder: Child,
    net: File,
    _output: ChildStdout,
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

impl Space {
    /// One with nothing in it but its loopback.
    pub(crate) fn new() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn().unwrap_or_else(|error| panic!("`unshare` (package util-linux): {error}"));
        // What comes back says that the child is where it should be.
        let input = holder.stdin.as_mut().expect("it is piped");
        input.write_all(b"\n").expect("cat reads");
        let mut output = holder.stdout.take().expect("it is piped");
        let there = output.read_exact(&mut [0]);
        there.expect("a network namespace can be made: run as root, or by `unshare --user --map-root-user`");
        let net = File::open(format!("/proc/{}/ns/net", holder.id())).expect("the holder has a namespace");
        let space = Self { holder, net, _output: output };
        space.ip("link set lo up");
        space
    }

    /// A program in it, which ends with the thread that starts it.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.holder.id()));
        command.args(["--", "setpriv", "--pdeathsig", "KILL", "--", program]);
        command
    }

    /// Runs a tool in it, which has to succeed; its output.
    pub(crate) fn run(&self, tool: &str, words: &str, package: &str) -> String {
        let output = self.command(tool).args(words.split(' ')).output();
        let output = output.unwrap_or_else(|error| panic!("`nsenter` (package util-linux): {error}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "`{tool} {words}` (package {package}) failed: {said}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs `ip`.
    pub(crate) fn ip(&self, words: &str) {
        self.run("ip", words, "iproute2");
    }

    /// Runs `iptables`.
    pub(crate) fn iptables(&self, words: &str) -> String {
        self.run("iptables", &format!("--wait {words}"), "iptables")
    }

    /// Does something on a thread that is in it. A socket stays in the namespace that it was made in.
    pub(crate) fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let act = || {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(self.net.as_fd(), kind).expect("its maker may enter it");
            act()
        };
        let done = std::thread::scope(|scope| scope.spawn(act).join());
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Writes a setting below `/proc/sys/net`.
    pub(crate) fn set(&self, name: &str, value: &str) {
        let write = || std::fs::write(format!("/proc/sys/net/{name}"), value);
        self.inside(write).unwrap_or_else(|error| panic!("net/{name} cannot be set: {error}"));
    }

    /// Joins it to `other` by a link whose ends are named, and have these addresses of one /24.
    pub(crate) fn link(&self, (name, address): (&str, &str), other: &Self, (far, far_address): (&str, &str)) {
        let (here, there) = (self.holder.id(), other.holder.id());
        self.ip(&format!("link add {name} netns {here} type veth peer name {far} netns {there}"));
        for (space, name, address) in [(self, name, address), (other, far, far_address)] {
            // One packet is one packet, however much is sent: else a dropped one would take 64 KiB with it.
            space.ip(&format!("link set {name} gso_max_segs 1"));
            space.ip(&format!("addr add {address}/24 dev {name}"));
            space.ip(&format!("link set {name} up"));
        }
    }
}
