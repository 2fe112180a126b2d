/* SPDX-License-Identifier: Apache-2.0 */
/*
 * irqchip.c - the in-kernel interrupt controllers of the machine: two 8259
 * PICs and an IOAPIC
 */
#include "kvm/job.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"

static int save_chip(struct pmig_kvm_job *job, uint32_t chip_id,
		     struct pmig_error *err)
{
	struct kvm_irqchip *chip;

	if (!(job->kvm->flags & PMIG_KVM_IRQCHIP))
		return 0;
	chip = pmig_kvm_room(job, sizeof(*chip), err);
	if (!chip)
		return -ENOMEM;
	chip->chip_id = chip_id;
	return VM_CALL(job, KVM_GET_IRQCHIP, chip, err);
}

static int load_chip(struct pmig_kvm_job *job, uint32_t chip_id,
		     const struct pmig_item *item, struct pmig_error *err)
{
	struct kvm_irqchip chip;

	memcpy(&chip, item->data, sizeof(chip));
	if (chip.chip_id != chip_id)
		return pmig_fail(err, -EBADMSG, "%s: it is of chip %u, not %u",
				 item->name, chip.chip_id, chip_id);
	return VM_CALL(job, KVM_SET_IRQCHIP, &chip, err);
}

PMIG_KVM_SAVE(pic0)
{
	(void)vcpu;
	return save_chip(job, KVM_IRQCHIP_PIC_MASTER, err);
}

PMIG_KVM_LOAD(pic0)
{
	(void)vcpu;
	return load_chip(job, KVM_IRQCHIP_PIC_MASTER, item, err);
}

PMIG_KVM_SAVE(pic1)
{
	(void)vcpu;
	return save_chip(job, KVM_IRQCHIP_PIC_SLAVE, err);
}

PMIG_KVM_LOAD(pic1)
{
	(void)vcpu;
	return load_chip(job, KVM_IRQCHIP_PIC_SLAVE, item, err);
}

PMIG_KVM_SAVE(ioapic)
{
	(void)vcpu;
	return save_chip(job, KVM_IRQCHIP_IOAPIC, err);
}

PMIG_KVM_LOAD(ioapic)
{
	(void)vcpu;
	return load_chip(job, KVM_IRQCHIP_IOAPIC, item, err);
}
