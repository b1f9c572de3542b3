//! The settings of all collectors of this crate. Each metric's own stand in its folder.

use kumon_collect::Collector;

use crate::Root;
use crate::metric::{MetricSettings, Reading};

/// Puts together what the metrics of these folders have; each has a collector of its own.
macro_rules! collectors {
    ($($folder:ident: $Metric:ident, $Settings:ident $(, $filter:ident)?;)*) => {
        kumon_collect::settings! {
            /// Settings of every metric; each key is optional.
            pub struct Settings {
                metrics { $($folder: crate::$folder::$Settings $(, $filter)?;)* }
                internal {
                    /// Where /proc and /sys are.
                    root: Root = Root::default();
                }
            }
        }

        impl Settings {
            /// Every collector, in the order in which they start.
            pub(crate) fn collectors(&self) -> Vec<Box<dyn Collector>> {
                vec![$(Box::new(Reading::<crate::$folder::$Metric>::new(&self.root, &self.$folder))),*]
            }
        }

        $(impl MetricSettings for crate::$folder::$Settings {
            fn enabled(&self) -> bool {
                self.enabled
            }

            fn interval(&self) -> std::time::Duration {
                self.interval
            }
        })*
    };
}

collectors! {
    cpu: Cpu, CpuSettings;
    memory: Memory, MemorySettings;
    disk: Disk, DiskSettings;
    filesystem: Filesystem, FilesystemSettings;
    netdev: Netdev, NetdevSettings;
    netstat: Netstat, NetstatSettings;
    container: Container, ContainerSettings;
    snapshot_process: SnapshotProcess, SnapshotProcessSettings;
    snapshot_socket: SnapshotSocket, SnapshotSocketSettings;
    process: Process, ProcessSettings, filter;
}
