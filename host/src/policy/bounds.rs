//! What the store of one instance may grow to, and how far its memory has grown.

use wasmtime::{ResourceLimiter, StoreLimits, StoreLimitsBuilder};

/// Elements of one table, tables and memories of one instance.
pub(super) const TABLE_ELEMENTS_MAX: usize = 100_000;
pub(super) const TABLES_MAX: u32 = 32;
pub(super) const MEMORIES_MAX: u32 = 8;
/// Core instances of one component: Python's tools make one of each library, 33 for a policy.
const INSTANCES_MAX: usize = 128;

/// The limits of one store.
#[derive(Debug)]
pub(super) struct Bounds {
    limits: StoreLimits,
    /// The most that one memory has had.
    memory_bytes: usize,
}

// === impl Bounds ===

impl Bounds {
    pub(super) fn new(memory_bytes_max: usize) -> Self {
        let limits = StoreLimitsBuilder::new()
            .memory_size(memory_bytes_max)
            .table_elements(TABLE_ELEMENTS_MAX)
            .instances(INSTANCES_MAX)
            .tables(TABLES_MAX as usize)
            .memories(MEMORIES_MAX as usize)
            .build();
        Self { limits, memory_bytes: 0 }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }
}

impl ResourceLimiter for Bounds {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let grows = self.limits.memory_growing(current, desired, maximum)?;
        if grows {
            self.memory_bytes = self.memory_bytes.max(desired);
        }
        Ok(grows)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.limits.table_growing(current, desired, maximum)
    }

    fn instances(&self) -> usize {
        self.limits.instances()
    }

    fn tables(&self) -> usize {
        self.limits.tables()
    }

    fn memories(&self) -> usize {
        self.limits.memories()
    }
}
