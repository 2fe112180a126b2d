/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PVMM_MAILBOX_H
#define PVMM_MAILBOX_H

#include "vmm/vmm.h"

/* Write the mailboxes of all vCPUs as their programs start. */
void pvmm_mailbox_fill(struct pvmm *vm);

#endif
