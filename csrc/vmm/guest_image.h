/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PVMM_GUEST_IMAGE_H
#define PVMM_GUEST_IMAGE_H

#include "vmm/vmm.h"

/* Guest addresses of what is in the image; see guest.S. */
uint64_t pvmm_image_start(void);
uint64_t pvmm_image_tick(void);
uint64_t pvmm_image_spurious(void);
uint64_t pvmm_image_exception(unsigned int vector);

/* The step routine of program; marked: the one that keeps the log. */
uint64_t pvmm_image_entry(enum pvmm_program program, bool marked);

/* Copy the image to where it belongs in RAM. */
void pvmm_image_install(void *ram);

#endif
