use kumon_collect::capture::CapturedRow;

use super::ContainerSettings;
use crate::Settings;
use crate::testing::{Node, Started};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const SERVICE: &str = "system.slice/nginx.service";

/// With cgroup v2 only.
fn unified() -> Node {
    let node = Node::new();
    node.write(
        "proc/self/mountinfo",
        "35 25 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n",
    );
    of_every_kind(&node);
    let pod = format!("sys/fs/cgroup/kubepods.slice/cri-containerd-{ID}.scope");
    for (file, text) in [
        (
            "cpu.stat",
            "usage_usec 1000\nuser_usec 600\nsystem_usec 400\nnr_periods 5\nnr_throttled 1\nthrottled_usec 50\n",
        ),
        ("cpu.max", "50000 100000\n"),
        ("memory.current", "4096000\n"),
        ("memory.max", "8192000\n"),
        (
            "memory.stat",
            "anon 1\nfile 2\nkernel 9\nfile_mapped 3\ninactive_anon 4\nactive_anon 5\ninactive_file 6\nactive_file 7\n\
            unevictable 8\npgfault 100\npgmajfault 10\n",
        ),
        ("memory.events", "low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\noom_group_kill 0\n"),
        ("io.stat", "254:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n7:0 \n"),
        ("pids.current", "3\n"),
        ("pids.max", "max\n"),
        ("cpu.pressure", "some avg10=0.00 total=10\nfull avg10=0.00 total=5\n"),
        ("memory.pressure", "some total=0\nfull total=0\n"),
        ("io.pressure", "some total=7\nfull total=7\n"),
        ("cgroup.procs", "42\n43\n"),
    ] {
        node.write(&format!("{pod}/{file}"), text);
    }
    node
}

/// What is the same whatever cgroups there are.
fn of_every_kind(node: &Node) {
    node.write("proc/stat", "cpu 1 2 3 4\ncpu0 1 2 3 4\ncpu1 1 2 3 4\n");
    node.write("proc/meminfo", "MemTotal: 16000 kB\n");
    node.link("sys/dev/block/254:0", "../../devices/virtual/block/vda");
    node.link("proc/1/ns/net", "net:[4026531840]");
    node.link("proc/42/ns/net", "net:[4026532000]");
    node.write(
        "proc/42/net/dev",
        "Inter-|\nlo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\neth0: 10 1 0 0 0 0 0 0 20 2 0 0 0 0 0 0\n",
    );
}

/// Without what changes from run to run.
fn rows(reading: &mut Started) -> Vec<CapturedRow> {
    let mut rows = reading.rows();
    for row in &mut rows {
        assert!(row.remove("interval").is_some() && row.remove("timestamp").is_some());
        row.remove("cpu_pct");
    }
    rows
}

fn expect(row: &CapturedRow, expected: &[(&str, &str)]) {
    let mut row = row.clone();
    row.remove("cgroup_id");
    let expected = expected.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
    assert_eq!(row, expected);
}

#[test]
fn a_container_of_cgroup_v2_has_a_row_and_one_of_each_disk_that_it_used() {
    let node = unified();
    let mut reading = node.start("container", Settings::default());
    let pod = format!("sys/fs/cgroup/kubepods.slice/cri-containerd-{ID}.scope");
    for (file, text) in [
        (
            "cpu.stat",
            "usage_usec 1500\nuser_usec 900\nsystem_usec 600\nnr_periods 9\nnr_throttled 3\nthrottled_usec 90\n",
        ),
        (
            "memory.stat",
            "anon 11\nfile 12\nfile_mapped 13\ninactive_anon 14\nactive_anon 15\ninactive_file 16\nactive_file 17\n\
            unevictable 18\npgfault 107\npgmajfault 12\n",
        ),
        ("memory.events", "oom 2\noom_kill 3\n"),
        ("io.stat", "254:0 rbytes=8192 wbytes=512 rios=2 wios=1 dbytes=1024 dios=1\n"),
        ("cpu.pressure", "some total=30\nfull total=6\n"),
    ] {
        node.write(&format!("{pod}/{file}"), text);
    }
    node.write("proc/42/net/dev", "Inter-|\neth0: 110 11 0 0 0 0 0 0 220 22 0 0 0 0 0 0\n");
    let rows = rows(&mut reading);
    let path = format!("/kubepods.slice/cri-containerd-{ID}.scope");
    let [whole, disk] = rows.as_slice() else { panic!("{rows:?}") };
    expect(
        whole,
        &[
            ("cgroup", &path),
            ("cpu_time", "500000"),
            ("cpu_user", "300000"),
            ("cpu_system", "200000"),
            ("cpu_limit", "0.5"),
            ("cpu_periods", "4"),
            ("cpu_throttled", "2"),
            ("cpu_throttled_time", "40000"),
            ("memory_usage", "4096000"),
            ("memory_limit", "8192000"),
            ("memory_pct", "0.5"),
            ("memory_rss", "11"),
            ("memory_cache", "12"),
            ("memory_mapped_file", "13"),
            ("memory_inactive_anon", "14"),
            ("memory_active_anon", "15"),
            ("memory_inactive_file", "16"),
            ("memory_active_file", "17"),
            ("memory_unevictable", "18"),
            ("page_faults", "7"),
            ("major_page_faults", "2"),
            ("oom_kills", "2"),
            ("received_bytes", "100"),
            ("received_packets", "10"),
            ("sent_bytes", "200"),
            ("sent_packets", "20"),
            ("pids", "3"),
            ("pressure_cpu_some", "20000"),
            ("pressure_cpu_full", "1000"),
            ("pressure_memory_some", "0"),
            ("pressure_memory_full", "0"),
            ("pressure_io_some", "0"),
            ("pressure_io_full", "0"),
        ],
    );
    expect(
        disk,
        &[
            ("cgroup", &path),
            ("disk", "vda"),
            ("read_bytes", "4096"),
            ("write_bytes", "512"),
            ("discard_bytes", "1024"),
            ("disk_bytes", "5632"),
            ("reads", "1"),
            ("writes", "1"),
            ("discards", "1"),
            ("disk_operations", "3"),
        ],
    );
    assert!(whole.contains_key("cgroup_id") && whole["cgroup_id"] == disk["cgroup_id"]);
}

/// A service and a container of cgroup v1; of the service there is nothing but memory.
fn of_v1(node: &Node, mountinfo: &str) {
    node.write("proc/self/mountinfo", mountinfo);
    of_every_kind(node);
    for (file, text) in [
        ("cpu,cpuacct/docker/ID/cpuacct.usage", "1000\n"),
        ("cpu,cpuacct/docker/ID/cpuacct.stat", "user 5\nsystem 6\n"),
        ("cpu,cpuacct/docker/ID/cpu.stat", "nr_periods 1\nnr_throttled 1\nthrottled_time 100\n"),
        ("cpu,cpuacct/docker/ID/cpu.cfs_quota_us", "-1\n"),
        ("cpu,cpuacct/docker/ID/cpu.cfs_period_us", "100000\n"),
        ("memory/docker/ID/memory.usage_in_bytes", "8192000\n"),
        ("memory/docker/ID/memory.limit_in_bytes", "9223372036854771712\n"),
        ("memory/docker/ID/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n"),
        (
            "memory/docker/ID/memory.stat",
            "cache 1\nrss 2\npgpgin 3\ntotal_cache 10\ntotal_rss 20\ntotal_mapped_file 30\ntotal_pgpgin 40\n\
            total_pgpgout 50\ntotal_pgfault 60\ntotal_pgmajfault 70\ntotal_inactive_anon 80\ntotal_active_anon 90\n\
            total_inactive_file 100\ntotal_active_file 110\ntotal_unevictable 120\n",
        ),
        ("blkio/docker/ID/blkio.throttle.io_service_bytes_recursive", "Total 0\n"),
        ("blkio/docker/ID/blkio.throttle.io_serviced_recursive", "Total 0\n"),
        ("pids/docker/ID/pids.current", "2\n"),
        ("pids/docker/ID/pids.max", "100\n"),
        ("memory/docker/ID/cgroup.procs", ""),
        ("memory/docker/ID/inner/cgroup.procs", "0\n44\n"),
        ("memory/system.slice/nginx.service/memory.usage_in_bytes", "123\n"),
    ] {
        node.write(&format!("sys/fs/cgroup/{}", file.replace("ID", ID)), text);
    }
}

const V1: &str = "36 25 0:31 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
    37 25 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
    38 25 0:33 / /sys/fs/cgroup/blkio rw - cgroup cgroup rw,blkio\n\
    39 25 0:34 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
    40 25 0:35 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n";

#[test]
fn containers_and_services_of_cgroup_v1_have_what_its_controllers_tell() {
    let node = Node::new();
    of_v1(&node, V1);
    let mut reading = node.start("container", Settings::default());
    for (file, text) in [
        ("cpu,cpuacct/docker/ID/cpuacct.usage", "1700\n"),
        ("cpu,cpuacct/docker/ID/cpuacct.stat", "user 8\nsystem 7\n"),
        (
            "blkio/docker/ID/blkio.throttle.io_service_bytes_recursive",
            "8:16 Read 1\n8:16 Write 2\n8:16 Sync 3\n8:16 Async 0\n8:16 Discard 0\n8:16 Total 3\nTotal 3\n",
        ),
        ("blkio/docker/ID/blkio.throttle.io_serviced_recursive", "8:16 Read 1\n8:16 Write 1\n8:16 Total 2\n"),
        (
            "blkio/docker/ID/blkio.bfq.io_service_bytes_recursive",
            "8:16 Read 9\n254:0 Read 9\n254:0 Total 9\n",
        ),
        ("blkio/docker/ID/blkio.bfq.io_serviced_recursive", "8:16 Read 7\n254:0 Read 7\n254:0 Total 7\n"),
    ] {
        node.write(&format!("sys/fs/cgroup/{}", file.replace("ID", ID)), text);
    }
    let rows = rows(&mut reading);
    let [whole, disk, of_bfq, service] = rows.as_slice() else { panic!("{rows:?}") };
    let path = format!("/docker/{ID}");
    expect(
        whole,
        &[
            ("container_name", &ID[..12]),
            ("container_id", ID),
            ("cgroup", &path),
            ("cpu_time", "700"),
            ("cpu_user", "30000000"),
            ("cpu_system", "10000000"),
            ("cpu_periods", "0"),
            ("cpu_throttled", "0"),
            ("cpu_throttled_time", "0"),
            ("memory_usage", "8192000"),
            ("memory_pct", "0.5"),
            ("memory_rss", "20"),
            ("memory_cache", "10"),
            ("memory_mapped_file", "30"),
            ("memory_inactive_anon", "80"),
            ("memory_active_anon", "90"),
            ("memory_inactive_file", "100"),
            ("memory_active_file", "110"),
            ("memory_unevictable", "120"),
            ("memory_pages_in", "0"),
            ("memory_pages_out", "0"),
            ("page_faults", "0"),
            ("major_page_faults", "0"),
            ("oom_kills", "0"),
            ("pids", "2"),
            ("pids_limit", "100"),
        ],
    );
    // A disk that nothing is known of but its number.
    expect(
        disk,
        &[
            ("container_name", &ID[..12]),
            ("container_id", ID),
            ("cgroup", &path),
            ("disk", "8:16"),
            ("read_bytes", "1"),
            ("write_bytes", "2"),
            ("sync_bytes", "3"),
            ("async_bytes", "0"),
            ("discard_bytes", "0"),
            ("disk_bytes", "3"),
            ("reads", "1"),
            ("writes", "1"),
            ("disk_operations", "2"),
        ],
    );
    assert_eq!(["disk", "read_bytes", "reads"].map(|column| of_bfq[column].as_str()), ["vda", "9", "7"]);
    expect(
        service,
        &[
            ("cgroup", &format!("/{SERVICE}")),
            ("unit", "nginx.service"),
            ("memory_usage", "123"),
            ("memory_pct", "0"),
        ],
    );
}

#[test]
fn on_hybrid_nodes_the_pressure_is_that_of_cgroup_v2_and_the_rest_of_v1() {
    let node = Node::new();
    of_v1(&node, &format!("{V1}41 25 0:36 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"));
    let v2 = format!("sys/fs/cgroup/unified/docker/{ID}");
    node.write(&format!("{v2}/cpu.pressure"), "some total=1\n");
    node.write(&format!("{v2}/cpu.stat"), "usage_usec 1000000\n");
    let mut reading = node.start("container", Settings::default());
    node.write(&format!("{v2}/cpu.pressure"), "some total=3\n");
    node.write(&format!("{v2}/cpu.stat"), "usage_usec 2000000\n");
    let rows = rows(&mut reading);
    assert_eq!((rows[0]["pressure_cpu_some"].as_str(), rows[0]["cpu_time"].as_str()), ("2000", "0"));
    assert!(rows[0].contains_key("cgroup_id") && !rows[1].contains_key("cgroup_id"), "{rows:?}");
}

#[test]
fn cgroups_come_and_go_and_come_again() {
    let node = unified();
    let mut reading = node.start("container", Settings::default());
    let folder = format!("sys/fs/cgroup/{SERVICE}");
    node.write(&format!("{folder}/cpu.stat"), "usage_usec 7\n");
    let new = rows(&mut reading).remove(1);
    assert_eq!((new["cgroup"].as_str(), new["cpu_time"].as_str()), ("/system.slice/nginx.service", "7000"));
    // Another one of the same name, which has used more than the first. That is kept, or its inode could come back.
    node.rename(&folder, "elsewhere");
    node.write(&format!("{folder}/cpu.stat"), "usage_usec 9\n");
    assert_eq!(rows(&mut reading)[1]["cpu_time"], "9000");
    // Gone while its name was still there, as its files are when a reading overtakes its end.
    node.remove(&folder);
    node.write(&format!("{folder}/cgroup.procs"), "");
    assert_eq!(rows(&mut reading).len(), 1);
    node.remove("sys/fs/cgroup");
    assert_eq!(rows(&mut reading).len(), 0);
}

#[test]
fn what_is_too_many_is_lost_and_counted_and_its_past_is_in_no_row() {
    let node = unified();
    let settings = ContainerSettings { max_cgroups: 1, ..ContainerSettings::default() };
    node.write(&format!("sys/fs/cgroup/{SERVICE}/cpu.stat"), "usage_usec 7\n");
    let mut reading = node.start("container", Settings { container: settings, ..Settings::default() });
    let [row] = rows(&mut reading).try_into().unwrap();
    assert_eq!(reading.lost("too many cgroups"), 2, "at the start and now");
    // The other one is found in its place, and what it did before is unknown.
    let gone = if row["cgroup"].starts_with("/kube") {
        "sys/fs/cgroup/kubepods.slice"
    } else {
        "sys/fs/cgroup/system.slice"
    };
    node.remove(gone);
    assert_eq!(rows(&mut reading), []);
    assert_eq!(rows(&mut reading).len(), 1);
    assert_eq!(reading.lost("too many cgroups"), 2);
}

#[test]
fn without_cgroups_it_says_so() {
    let node = Node::new();
    node.write("proc/self/mountinfo", "22 1 254:1 / / rw,relatime - ext4 /dev/vda1 rw\n");
    let message = node.refusal("container", Settings::default());
    assert!(message.contains("no cgroup file system is mounted"), "{message}");
}
