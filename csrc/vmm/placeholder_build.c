/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vmm.h"
#include <errno.h>
int pvmm_new(const struct pvmm_config *c, struct pvmm **vm, struct pmig_error *err){(void)c;(void)vm;(void)err;return -ENOSYS;}
void pvmm_free(struct pvmm *vm){(void)vm;}
struct pmig_memory *pvmm_memory(const struct pvmm *vm){(void)vm;return NULL;}
void *pvmm_ram(const struct pvmm *vm){(void)vm;return NULL;}
const struct pmig_kvm *pvmm_kvm(const struct pvmm *vm){(void)vm;return NULL;}
int pvmm_pause(struct pvmm *vm, struct pmig_error *err){(void)vm;(void)err;return -ENOSYS;}
int pvmm_resume(struct pvmm *vm, struct pmig_error *err){(void)vm;(void)err;return -ENOSYS;}
void pvmm_status(struct pvmm *vm, struct pvmm_status *s){(void)vm;(void)s;}
int pvmm_wait_device_reads(struct pvmm *vm, uint64_t n, int t, struct pmig_error *err){(void)vm;(void)n;(void)t;(void)err;return -ENOSYS;}
int pvmm_dirty_config(struct pvmm *vm, enum pmig_tracker t, struct pmig_dirty_config *c, struct pmig_error *err){(void)vm;(void)t;(void)c;(void)err;return -ENOSYS;}
void pvmm_attach(struct pvmm *vm, struct pmig_dirty *d){(void)vm;(void)d;}
int pvmm_save(struct pvmm *vm, struct pmig_state **s, struct pmig_error *err){(void)vm;(void)s;(void)err;return -ENOSYS;}
int pvmm_load(struct pvmm *vm, const struct pmig_state *s, char **k, struct pmig_error *err){(void)vm;(void)s;(void)k;(void)err;return -ENOSYS;}
int pvmm_before_run(struct pvmm *vm, struct pmig_error *err){(void)vm;(void)err;return -ENOSYS;}
int pvmm_heartbeat(const struct pvmm *vm, uint32_t v, struct pvmm_heartbeat *h){(void)vm;(void)v;(void)h;return -ENOSYS;}
uint64_t pvmm_tsc_khz(const struct pvmm *vm){(void)vm;return 0;}
uint64_t pvmm_guest_gap_ns(const struct pvmm *vm){(void)vm;return 0;}
int pvmm_oracle(struct pvmm *vm, uint32_t f, struct pvmm_oracle *o, struct pmig_error *err){(void)vm;(void)f;(void)o;(void)err;return -ENOSYS;}
size_t pvmm_serial(struct pvmm *vm, char *b, size_t n){(void)vm;(void)b;(void)n;return 0;}
uint64_t pvmm_serial_bytes(struct pvmm *vm){(void)vm;return 0;}
