// SPDX-License-Identifier: MIT
// Performance states for the two processors of QEMU's q35 machine, so that
// acpi-cpufreq offers real policies. The control register is the echo port of
// the pc-testdev device; its value is what the kernel reads back.
DefinitionBlock ("", "SSDT", 2, "FLAMED", "PSTATES", 1)
{
	External (\_SB.CPUS.C000, DeviceObj)
	External (\_SB.CPUS.C001, DeviceObj)

	Name (\FPSS, Package (5)
	{
		Package (6) { 2000, 20000, 10, 10, 0x14, 0x14 },
		Package (6) { 1600, 15000, 10, 10, 0x10, 0x10 },
		Package (6) { 1200, 10000, 10, 10, 0x0C, 0x0C },
		Package (6) {  800,  6000, 10, 10, 0x08, 0x08 },
		Package (6) {  400,  3000, 10, 10, 0x04, 0x04 }
	})

	// The highest state permitted, and how a test sets it.
	Name (\FPPC, 0)
	Method (\FSET, 1, Serialized)
	{
		Store (Arg0, \FPPC)
		Notify (\_SB.CPUS.C000, 0x80)
		Notify (\_SB.CPUS.C001, 0x80)
	}

	Scope (\_SB.CPUS.C000)
	{
		Name (_PCT, Package (2)
		{
			ResourceTemplate () { Register (SystemIO, 16, 0, 0xE0) },
			ResourceTemplate () { Register (SystemIO, 16, 0, 0xE0) }
		})
		Method (_PSS, 0, NotSerialized) { Return (\FPSS) }
		Method (_PPC, 0, NotSerialized) { Return (\FPPC) }
	}

	Scope (\_SB.CPUS.C001)
	{
		Name (_PCT, Package (2)
		{
			ResourceTemplate () { Register (SystemIO, 16, 0, 0xE0) },
			ResourceTemplate () { Register (SystemIO, 16, 0, 0xE0) }
		})
		Method (_PSS, 0, NotSerialized) { Return (\FPSS) }
		Method (_PPC, 0, NotSerialized) { Return (\FPPC) }
	}
}
