//! Where in a server's executable the probes go.

use std::fs::File;
use std::io;
use std::path::Path;

use object::read::ReadCache;
use object::read::elf::{ElfFile64, Sym};
use object::{Endianness, Object, ObjectSection, ObjectSegment};

/// An executable of a database server, opened to look for its functions.
pub(super) struct Executable<'a> {
    elf: ElfFile64<'a, Endianness, &'a ReadCache<File>>,
    /// The names of what it exports, which its symbols point into.
    names: &'a [u8],
}

/// Opens a file so that only the parts of it that are looked at are read.
///
/// # Errors
/// When it can't be opened.
pub(super) fn open(path: &Path) -> io::Result<ReadCache<File>> {
    Ok(ReadCache::new(File::open(path)?))
}

impl<'a> Executable<'a> {
    /// Reads the ELF header of `file` and the names of what it exports; at once, because a server exports tens of
    /// thousands.
    ///
    /// # Errors
    /// When it is no 64-bit ELF file, or one that exports nothing.
    pub(super) fn read(file: &'a ReadCache<File>) -> Result<Executable<'a>, String> {
        let elf = ElfFile64::parse(file).map_err(|e| format!("reading its ELF header: {e}"))?;
        let names = elf.elf_dynamic_symbol_table().string_section();
        let names = elf.section_by_index(names).and_then(|section| section.data());
        let names = names.map_err(|e| format!("reading the names of what it exports: {e}"))?;
        Ok(Executable { elf, names })
    }

    /// The place in the file of the function whose name is `name`, or begins so where it is a C++ name whose
    /// parameters differ from version to version.
    ///
    /// # Errors
    /// When the executable exports no such function.
    pub(super) fn function(&self, name: &str) -> Result<usize, String> {
        let mangled = name.starts_with("_Z");
        // libelf's users call the table of exported names `.dynsym`; servers export theirs for their plugins, so
        // that it is there in stripped files too.
        let endian = self.elf.endian();
        let found = self.elf.elf_dynamic_symbol_table().iter().find(|symbol| {
            let rest = self.names.get(symbol.st_name(endian) as usize..);
            let rest = rest.and_then(|rest| rest.strip_prefix(name.as_bytes()));
            symbol.is_definition(endian) && rest.is_some_and(|rest| mangled || rest.first() == Some(&b'\0'))
        });
        let symbol = found.ok_or_else(|| format!("it exports no function {name}"))?;
        self.file_offset(symbol.st_value(endian))
            .ok_or_else(|| format!("the function {name} is in none of its segments"))
    }

    /// Where a THD of this MariaDB keeps its statement, as its function `thd_query_string` computes it.
    ///
    /// # Errors
    /// When that function is missing or isn't compiled to one of the known forms.
    pub(super) fn query_offset(&self) -> Result<u64, String> {
        const NAME: &str = "thd_query_string";
        const LONGEST: usize = 12;
        let start = self.function(NAME)?;
        let code = self.elf.segments().find_map(|segment| {
            let (at, size) = segment.file_range();
            let inside = (start as u64).checked_sub(at).filter(|inside| *inside < size)? as usize;
            let data = segment.data().ok()?;
            data.get(inside..data.len().min(inside + LONGEST))
        });
        code.and_then(displacement).ok_or_else(|| format!("its function {NAME} has an unknown form"))
    }

    fn file_offset(&self, address: u64) -> Option<usize> {
        self.elf.segments().find_map(|segment| {
            let inside = address.checked_sub(segment.address())?;
            let (offset, size) = segment.file_range();
            (inside < size).then_some((offset + inside) as usize)
        })
    }
}

/// The displacement in the code of a function that returns its argument plus a constant: on x86-64 `endbr64` or
/// nothing, `lea displacement(%rdi),%rax`, `ret`.
fn displacement(code: &[u8]) -> Option<u64> {
    const ENDBR64: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa];
    const RET: u8 = 0xc3;
    match code.strip_prefix(ENDBR64).unwrap_or(code) {
        [0x48, 0x8d, 0x47, byte, RET, ..] => Some((*byte).into()).filter(|byte| *byte < 0x80),
        [0x48, 0x8d, 0x87, a, b, c, d, RET, ..] => {
            Some(u32::from_le_bytes([*a, *b, *c, *d]).into()).filter(|offset| *offset < 1 << 20)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::displacement;

    #[test]
    fn the_offset_is_read_from_the_forms_that_compilers_make() {
        let table: [(&[u8], Option<u64>); 6] = [
            (&[0x48, 0x8d, 0x47, 0x68, 0xc3, 0x66], Some(0x68)),
            (&[0xf3, 0x0f, 0x1e, 0xfa, 0x48, 0x8d, 0x47, 0x68, 0xc3], Some(0x68)),
            (&[0x48, 0x8d, 0x87, 0x34, 0x12, 0, 0, 0xc3], Some(0x1234)),
            (&[0x48, 0x8d, 0x87, 0, 0, 0, 0xff, 0xc3], None),
            (&[0x48, 0x8d, 0x47, 0x68], None),
            (&[0x55, 0x48, 0x89, 0xe5], None),
        ];
        for (code, expected) in table {
            assert_eq!(displacement(code), expected, "{code:x?}");
        }
    }
}
