# SPDX-License-Identifier: Apache-2.0
"""Names of CPUID feature bits, XSAVE components and MSRs, for messages.

Only names: a bit without one is compared all the same and reported by its
number. The names are those of Linux' /proc/cpuinfo where it has one; the
positions are from the Intel SDM volume 2A (CPUID), the AMD APM volume 3
(appendix E) and Linux' Documentation/virt/kvm/x86/cpuid.rst.
"""

from __future__ import annotations

from typing import Final, Literal

__all__ = ["FEATURES", "KVM_FEATURES", "MSRS", "XSAVE_COMPONENTS", "Register", "Word"]

Register = Literal["eax", "ebx", "ecx", "edx"]

# (leaf, index, register)
Word = tuple[int, int, Register]


def _named(text: str) -> dict[int, str]:
    """``"0:fpu 1:vme"`` as a dictionary."""
    pairs = (item.split(":") for item in text.split())
    return {int(bit): name for bit, name in pairs}


# Every register whose bits each stand for something the guest may use.
FEATURES: Final[dict[Word, dict[int, str]]] = {
    (0x1, 0, "ecx"): _named(
        "0:sse3 1:pclmulqdq 2:dtes64 4:ds_cpl 5:vmx 6:smx 7:est 8:tm2 9:ssse3 12:fma 13:cx16 "
        "14:xtpr 15:pdcm 17:pcid 18:dca 19:sse4_1 20:sse4_2 21:x2apic 22:movbe 23:popcnt "
        "24:tsc_deadline_timer 25:aes 26:xsave 28:avx 29:f16c 30:rdrand"
    ),
    (0x1, 0, "edx"): _named(
        "0:fpu 1:vme 2:de 3:pse 4:tsc 5:msr 6:pae 7:mce 8:cx8 11:sep 12:mtrr 13:pge 14:mca "
        "15:cmov 16:pat 17:pse36 18:pn 19:clflush 21:dts 22:acpi 23:mmx 24:fxsr 25:sse 26:sse2 "
        "27:ss 29:tm 31:pbe"
    ),
    (0x6, 0, "eax"): _named("2:arat"),
    (0x7, 0, "ebx"): _named(
        "0:fsgsbase 1:tsc_adjust 2:sgx 3:bmi1 4:hle 5:avx2 7:smep 8:bmi2 9:erms 10:invpcid "
        "11:rtm 12:cqm 14:mpx 15:rdt_a 16:avx512f 17:avx512dq 18:rdseed 19:adx 20:smap "
        "21:avx512ifma 23:clflushopt 24:clwb 25:intel_pt 26:avx512pf 27:avx512er 28:avx512cd "
        "29:sha_ni 30:avx512bw 31:avx512vl"
    ),
    (0x7, 0, "ecx"): _named(
        "1:avx512vbmi 2:umip 3:pku 5:waitpkg 6:avx512_vbmi2 7:shstk 8:gfni 9:vaes 10:vpclmulqdq "
        "11:avx512_vnni 12:avx512_bitalg 13:tme 14:avx512_vpopcntdq 16:la57 22:rdpid "
        "24:bus_lock_detect 25:cldemote 27:movdiri 28:movdir64b 29:enqcmd 30:sgx_lc 31:pks"
    ),
    (0x7, 0, "edx"): _named(
        "1:sgx_keys 2:avx512_4vnniw 3:avx512_4fmaps 4:fsrm 8:avx512_vp2intersect 9:srbds_ctrl "
        "10:md_clear 11:rtm_always_abort 14:serialize 16:tsxldtrk 18:pconfig 19:arch_lbr 20:ibt "
        "22:amx_bf16 23:avx512_fp16 24:amx_tile 25:amx_int8 26:spec_ctrl 27:intel_stibp "
        "28:flush_l1d 29:arch_capabilities 30:core_capabilities 31:spec_ctrl_ssbd"
    ),
    (0x7, 1, "eax"): _named(
        "0:sha512 1:sm3 2:sm4 4:avx_vnni 5:avx512_bf16 7:cmpccxadd 10:fzrm 11:fsrs 12:fsrc "
        "17:fred 18:lkgs 19:wrmsrns 21:amx_fp16 22:hreset 23:avx_ifma 26:lam 27:msrlist"
    ),
    (0x7, 1, "ecx"): _named("5:msr_imm"),
    (0x7, 1, "edx"): _named(
        "4:avx_vnni_int8 5:avx_ne_convert 8:amx_complex 10:avx_vnni_int16 14:prefetchiti "
        "18:cet_sss 19:avx10"
    ),
    (0x7, 2, "edx"): _named("0:intel_psfd 1:ipred_ctrl 2:rrsba_ctrl 3:ddpd_u 4:bhi_ctrl 5:mcdt_no"),
    (0xD, 1, "eax"): _named("0:xsaveopt 1:xsavec 2:xgetbv1 3:xsaves 4:xfd"),
    (0x80000001, 0, "ecx"): _named(
        "0:lahf_lm 2:svm 3:extapic 4:cr8_legacy 5:abm 6:sse4a 7:misalignsse 8:3dnowprefetch "
        "9:osvw 10:ibs 11:xop 12:skinit 13:wdt 15:lwp 16:fma4 17:tce 19:nodeid_msr 21:tbm "
        "22:topoext 23:perfctr_core 24:perfctr_nb 26:bpext 27:ptsc 28:perfctr_llc 29:mwaitx"
    ),
    (0x80000001, 0, "edx"): _named(
        "11:syscall 19:mp 20:nx 22:mmxext 25:fxsr_opt 26:pdpe1gb 27:rdtscp 29:lm 30:3dnowext "
        "31:3dnow"
    ),
    (0x80000007, 0, "edx"): _named("8:constant_tsc"),
    (0x80000008, 0, "ebx"): _named(
        "0:clzero 1:irperf 2:xsaveerptr 4:rdpru 9:wbnoinvd 12:amd_ibpb 14:amd_ibrs 15:amd_stibp "
        "17:amd_stibp_always_on 24:amd_ssbd 25:virt_ssbd 26:amd_ssb_no 28:amd_psfd 29:btc_no "
        "30:ibpb_ret"
    ),
    (0x8000000A, 0, "edx"): _named(
        "0:npt 1:lbrv 2:svm_lock 3:nrip_save 4:tsc_scale 5:vmcb_clean 6:flushbyasid "
        "7:decodeassists 10:pausefilter 12:pfthreshold 13:avic 15:v_vmsave_vmload 16:vgif "
        "18:x2avic 20:v_spec_ctrl 25:vnmi"
    ),
    (0x80000021, 0, "eax"): _named(
        "0:no_nested_data_bp 2:lfence_rdtsc 3:verw_clear 6:null_sel_clr_base 8:autoibrs "
        "9:no_smm_ctl_msr 27:sbpb 28:ibpb_brtype 29:srso_no 30:srso_user_kernel_no"
    ),
}

# CPUID leaf 0x40000001, eax.
KVM_FEATURES: Final = _named(
    "0:clocksource 1:nop_io_delay 2:mmu_op 3:clocksource2 4:async_pf 5:steal_time 6:pv_eoi "
    "7:pv_unhalt 9:pv_tlb_flush 10:async_pf_vmexit 11:pv_send_ipi 12:poll_control "
    "13:pv_sched_yield 14:async_pf_int 15:msi_ext_dest_id 16:hc_map_gpa_range "
    "17:migration_control 24:clocksource_stable_bit"
)

# Bits of XCR0 and IA32_XSS.
XSAVE_COMPONENTS: Final = _named(
    "0:x87 1:SSE 2:AVX 3:MPX-bounds 4:MPX-configuration 5:AVX-512-masks 6:AVX-512-upper-halves "
    "7:AVX-512-upper-registers 8:processor-trace 9:protection-keys 10:PASID 11:CET-user "
    "12:CET-supervisor 13:HDC 14:user-interrupts 15:LBR 16:HWP 17:AMX-configuration "
    "18:AMX-tiles 19:APX 62:LWP"
)

MSRS: Final[dict[int, str]] = {
    0x3A: "feature control",
    0x3B: "TSC adjust",
    0x48: "speculation control",
    0xCE: "platform info",
    0x10A: "arch capabilities",
    0x122: "TSX control",
    0x140: "misc features enable",
    0x174: "SYSENTER CS",
    0x175: "SYSENTER ESP",
    0x176: "SYSENTER EIP",
    0x1A0: "misc enable",
    0x1D9: "debug control",
    0x277: "PAT",
    0x345: "perf capabilities",
    0xDA0: "XSS",
    0x4B564D00: "KVM wall clock",
    0x4B564D01: "KVM system time",
    0x4B564D02: "KVM async page fault",
    0x4B564D03: "KVM steal time",
    0x4B564D04: "KVM PV end of interrupt",
    0xC0000081: "STAR",
    0xC0000082: "LSTAR",
    0xC0000083: "CSTAR",
    0xC0000084: "SYSCALL mask",
    0xC0000102: "kernel GS base",
    0xC0000103: "TSC aux",
    0xC001011F: "virtual speculation control",
}
