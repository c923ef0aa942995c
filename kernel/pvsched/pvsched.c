// SPDX-License-Identifier: GPL-2.0-only
/*
 * pvsched: tell the host what each CPU is doing
 *
 * The host schedules virtual CPUs without knowing what runs on them. QEMU's
 * device pvsched has it look at one cache line of the guest's memory per CPU,
 * in which the guest says whether the CPU does something that others wait for,
 * and in which the host says what it makes of it.
 *
 * A module sees of the kernel what tracepoints show: interrupts, softirqs, task
 * switches, idling. What it does not see, and hence never says, is that
 * preemption is off or a spinlock held; nothing there can be hooked that would
 * not cost every lock of the kernel a call. README.md has more on this.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 */

#include <linux/cc_platform.h>
#include <linux/cpuhotplug.h>
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/jiffies.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/percpu.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/sched.h>
#include <linux/sched/rt.h>
#include <linux/slab.h>
#include <linux/tracepoint.h>

#include <asm/trace/irq_vectors.h>
#include <trace/events/irq.h>
#include <trace/events/power.h>
#include <trace/events/sched.h>

/* Registers in BAR 0 */
#define PVSCHED_VERSION		0x00
#define PVSCHED_FEATURES	0x04
#define PVSCHED_DRIVER_FEATURES	0x08
#define PVSCHED_VCPUS		0x0c
#define PVSCHED_SELF		0x10
#define PVSCHED_WINDOW(n)	(0x1000 + (n) * 0x20)
#define PVSCHED_LINE_LO		0x00
#define PVSCHED_LINE_HI		0x04
#define PVSCHED_STATUS		0x08
#define PVSCHED_DOORBELL	0x0c

#define PVSCHED_FEATURE_BOOST	BIT(0)
#define PVSCHED_FEATURE_WAIT	BIT(1)
#define PVSCHED_REGISTERED	1

/* The request: activities, sequence number, how many microseconds at most */
#define PVSCHED_INTERRUPT	BIT_ULL(0)
#define PVSCHED_SOFTIRQ		BIT_ULL(1)
#define PVSCHED_NO_PREEMPT	BIT_ULL(2)
#define PVSCHED_RT_RUNNING	BIT_ULL(3)
#define PVSCHED_RT_WAITING	BIT_ULL(4)
#define PVSCHED_ACTIVITIES	GENMASK_ULL(7, 0)
#define PVSCHED_SEQUENCE	GENMASK_ULL(31, 16)
#define PVSCHED_NEXT		BIT_ULL(16)

#define PVSCHED_CRITICAL \
	(PVSCHED_INTERRUPT | PVSCHED_SOFTIRQ | PVSCHED_NO_PREEMPT)

/*
 * Nobody here knows beforehand how long something takes, so these are the
 * longest times for which it makes sense to ask.
 */
#define PVSCHED_US(us)		((u64)(us) << 32)
#define PVSCHED_CRITICAL_US	PVSCHED_US(2 * USEC_PER_MSEC)
#define PVSCHED_RUNNING_US	PVSCHED_US(500 * USEC_PER_MSEC)
#define PVSCHED_WAITING_US	PVSCHED_US(U32_MAX)

/* What the host says */
#define PVSCHED_BOOSTED		BIT(0)
#define PVSCHED_PENALTY		BIT(1)
#define PVSCHED_REFUSED		BIT(2)

struct pvsched_line {
	__le64 request;
	__le32 state;
	__le32 critical_us;
	__le32 rt_us;
	__le32 wait_us;
	u8 reserved[40];
};

static_assert(sizeof(struct pvsched_line) == 64);

/* How many of the RT tasks that sleep on a CPU are remembered */
#define PVSCHED_SLEEPERS	4

/* A boost that was refused is asked for again after so long. */
#define PVSCHED_AGAIN		(HZ / 10)

struct pvsched_cpu {
	/* NULL unless it is registered; only the CPU itself changes it. */
	struct pvsched_line *line;
	void __iomem *window;
	unsigned long rung;
	pid_t sleepers[PVSCHED_SLEEPERS];
	unsigned int oldest;
};

static DEFINE_PER_CPU_SHARED_ALIGNED(struct pvsched_cpu, pvsched_cpus);

/* There is one device at most. */
static struct pci_dev *pvsched_dev;
static void __iomem *pvsched_regs;
static u32 pvsched_features;
static u32 pvsched_vcpus;
/* What registers CPUs, if it is positive */
static int pvsched_state;

/*
 * All probes run on the CPU that they are about, with preemption off. One may
 * interrupt another between its load and its store of the request, but leaves
 * the activities as it has found them, so neither is lost; only a sequence
 * number may come twice. So there is no lock, no atomic instruction and no
 * disabling of interrupts.
 */

static __always_inline u64 pvsched_with_limit(u64 request)
{
	request &= PVSCHED_ACTIVITIES | PVSCHED_SEQUENCE;
	if (request & PVSCHED_RT_WAITING)
		return request | PVSCHED_WAITING_US;
	if (request & PVSCHED_RT_RUNNING)
		return request | PVSCHED_RUNNING_US;
	if (request & PVSCHED_ACTIVITIES)
		return request | PVSCHED_CRITICAL_US;
	return request;
}

static __always_inline u64 pvsched_request(const struct pvsched_line *line)
{
	return le64_to_cpu(READ_ONCE(line->request));
}

static __always_inline u32 pvsched_host_state(const struct pvsched_line *line)
{
	return le32_to_cpu(READ_ONCE(line->state));
}

/* Say what this CPU does. It is the one store that an interrupt costs. */
static __always_inline void pvsched_say(struct pvsched_line *line, u64 request)
{
	WRITE_ONCE(line->request, cpu_to_le64(pvsched_with_limit(request)));
}

/* This makes the CPU leave the guest, so it is for rare cases. */
static void pvsched_ring(const struct pvsched_cpu *this)
{
	writel(1, this->window + PVSCHED_DOORBELL);
}

/*
 * Something has begun for which it is worth the while to ask the host at once:
 * it notices other requests when it happens to look.
 */
static void pvsched_want_boost(struct pvsched_cpu *this)
{
	u32 state = pvsched_host_state(this->line);

	if (!(pvsched_features & PVSCHED_FEATURE_BOOST) ||
	    (state & PVSCHED_BOOSTED))
		return;
	if ((state & PVSCHED_REFUSED) &&
	    time_before(jiffies, this->rung + PVSCHED_AGAIN))
		return;
	this->rung = jiffies;
	pvsched_ring(this);
}

/*
 * The host waits for something to end. What @context adds to the count of
 * interrupts and preemption is known, and so is what the tracepoint adds. If
 * there is more, what was interrupted may hold a spinlock, and a penalty waits
 * for the next time: the host would let all others wait that want the lock.
 * It takes it by itself if that does not come soon.
 */
static noinline void pvsched_left_slow(const struct pvsched_cpu *this,
				       u32 state, bool payable,
				       unsigned int context)
{
	u64 request = pvsched_request(this->line);
	unsigned int count = preempt_count() & (PREEMPT_MASK | SOFTIRQ_MASK);

	if ((state & PVSCHED_PENALTY) && !(request & PVSCHED_CRITICAL) &&
	    payable &&
	    (count == PREEMPT_OFFSET + context || is_idle_task(current)))
		pvsched_ring(this);
	/*
	 * A softirq that this interrupt has raised asks again in a moment, and
	 * so does the RT task that it has woken.
	 */
	else if ((state & PVSCHED_BOOSTED) &&
		 !(request & PVSCHED_ACTIVITIES) &&
		 !need_resched() && !local_softirq_pending())
		pvsched_ring(this);
}

static __always_inline void pvsched_left(const struct pvsched_cpu *this,
					 bool payable, unsigned int context)
{
	u32 state = pvsched_host_state(this->line);

	if (unlikely(state & (PVSCHED_BOOSTED | PVSCHED_PENALTY)))
		pvsched_left_slow(this, state, payable, context);
}

static __always_inline void pvsched_enter(u64 activity)
{
	struct pvsched_line *line = this_cpu_read(pvsched_cpus.line);

	if (likely(line))
		pvsched_say(line, (pvsched_request(line) | activity) +
			    PVSCHED_NEXT);
}

static __always_inline void pvsched_leave(u64 activity, unsigned int context)
{
	const struct pvsched_cpu *this = this_cpu_ptr(&pvsched_cpus);
	struct pvsched_line *line = this->line;

	if (likely(line)) {
		pvsched_say(line, pvsched_request(line) & ~activity);
		pvsched_left(this, true, context);
	}
}

static void pvsched_irq_entry(void *data, int irq, struct irqaction *action)
{
	pvsched_enter(PVSCHED_INTERRUPT);
}

static void pvsched_irq_exit(void *data, int irq, struct irqaction *action,
			     int ret)
{
	pvsched_leave(PVSCHED_INTERRUPT, 0);
}

static void pvsched_vector_entry(void *data, int vector)
{
	pvsched_enter(PVSCHED_INTERRUPT);
}

static void pvsched_vector_exit(void *data, int vector)
{
	pvsched_leave(PVSCHED_INTERRUPT, 0);
}

static void pvsched_softirq_entry(void *data, unsigned int vec_nr)
{
	pvsched_enter(PVSCHED_SOFTIRQ);
}

static void pvsched_softirq_exit(void *data, unsigned int vec_nr)
{
	pvsched_leave(PVSCHED_SOFTIRQ, SOFTIRQ_OFFSET);
}

/* An RT task goes to sleep on this CPU; it takes the place of the oldest. */
static void pvsched_remember(struct pvsched_cpu *this, pid_t pid)
{
	unsigned int i;

	for (i = 0; i < PVSCHED_SLEEPERS; i++)
		if (this->sleepers[i] == pid)
			return;
	this->sleepers[this->oldest] = pid;
	this->oldest = (this->oldest + 1) % PVSCHED_SLEEPERS;
}

/*
 * Whether an RT task that slept in on this CPU still sleeps here. It may have
 * ended, been woken elsewhere, or be no RT task any more, and nothing tells
 * this CPU: so it looks, which takes a moment, but before it halts there is
 * time. Even if the number has gone to another task the answer is right.
 */
static bool pvsched_rt_sleeps(struct pvsched_cpu *this, unsigned int cpu)
{
	struct task_struct *task;
	bool sleeps = false;
	unsigned int i;

	rcu_read_lock();
	for (i = 0; i < PVSCHED_SLEEPERS && !sleeps; i++) {
		if (!this->sleepers[i])
			continue;
		task = pid_task(find_pid_ns(this->sleepers[i], &init_pid_ns),
				PIDTYPE_PID);
		sleeps = task && rt_task(task) && task_cpu(task) == cpu &&
			 (READ_ONCE(task->__state) & TASK_NORMAL);
		if (!sleeps)
			this->sleepers[i] = 0;
	}
	rcu_read_unlock();
	return sleeps;
}

/*
 * The lock of this CPU's run queue is held: it is no time for a penalty. Kernel
 * threads count as RT tasks while they run, but nobody waits for them to wake
 * up: each CPU has one that stops it, and it sleeps nearly always.
 */
static void pvsched_switch(void *data, bool preempt, struct task_struct *prev,
			   struct task_struct *next, unsigned int prev_state)
{
	struct pvsched_cpu *this = this_cpu_ptr(&pvsched_cpus);
	struct pvsched_line *line = this->line;
	u64 request;

	if (unlikely(!line))
		return;
	if (unlikely(rt_task(prev)) && !preempt && (prev_state & TASK_NORMAL) &&
	    !(prev->flags & PF_KTHREAD))
		pvsched_remember(this, prev->pid);
	/* pvsched_idle() comes next, and knows what to say. */
	if (is_idle_task(next))
		return;

	request = pvsched_request(line);
	if (unlikely(rt_task(next))) {
		pvsched_say(line, PVSCHED_RT_RUNNING |
			    ((request + PVSCHED_NEXT) & PVSCHED_SEQUENCE));
		pvsched_want_boost(this);
		return;
	}
	if (request & PVSCHED_ACTIVITIES)
		pvsched_say(line, request & PVSCHED_SEQUENCE);
	pvsched_left(this, false, 0);
}

/*
 * This CPU is about to idle. If it halts with an RT task asleep, it is to wake
 * up boosted; asleep it costs nobody anything. State 0 is polling: that does
 * cost, and has no end if it is "idle=poll".
 *
 * What is said stays until the next task switch, with those interrupts on top
 * that come meanwhile. So between the interrupt that wakes the task and the
 * task there is no gap.
 */
static void pvsched_idle(void *data, unsigned int state, unsigned int cpu)
{
	struct pvsched_cpu *this = this_cpu_ptr(&pvsched_cpus);
	struct pvsched_line *line = this->line;
	u64 request;

	if (unlikely(!line) || state == (unsigned int)PWR_EVENT_EXIT)
		return;
	request = pvsched_request(line);
	if (state && pvsched_rt_sleeps(this, cpu)) {
		if ((request & PVSCHED_ACTIVITIES) != PVSCHED_RT_WAITING)
			pvsched_say(line, PVSCHED_RT_WAITING |
				    ((request + PVSCHED_NEXT) &
				     PVSCHED_SEQUENCE));
		pvsched_want_boost(this);
		return;
	}
	if (request & PVSCHED_ACTIVITIES)
		pvsched_say(line, request & PVSCHED_SEQUENCE);
	pvsched_left(this, true, 0);
}

/*
 * A module finds most tracepoints by their names only. The interrupt that makes
 * a CPU reschedule is not among them: it does nothing, and the task switch that
 * follows speaks for itself.
 */
static struct pvsched_hook {
	const char *name;
	void *probe;
	struct tracepoint *tracepoint;
} pvsched_hooks[] = {
	{ "irq_handler_entry", pvsched_irq_entry },
	{ "irq_handler_exit", pvsched_irq_exit },
	{ "local_timer_entry", pvsched_vector_entry },
	{ "local_timer_exit", pvsched_vector_exit },
	{ "call_function_entry", pvsched_vector_entry },
	{ "call_function_exit", pvsched_vector_exit },
	{ "call_function_single_entry", pvsched_vector_entry },
	{ "call_function_single_exit", pvsched_vector_exit },
	{ "irq_work_entry", pvsched_vector_entry },
	{ "irq_work_exit", pvsched_vector_exit },
	{ "softirq_entry", pvsched_softirq_entry },
	{ "softirq_exit", pvsched_softirq_exit },
	{ "sched_switch", pvsched_switch },
	{ "cpu_idle", pvsched_idle },
};

/* The compiler looks whether this kernel calls the probes as they expect it. */
static void __maybe_unused pvsched_check_probes(void)
{
	check_trace_callback_type_irq_handler_entry(pvsched_irq_entry);
	check_trace_callback_type_irq_handler_exit(pvsched_irq_exit);
	check_trace_callback_type_local_timer_entry(pvsched_vector_entry);
	check_trace_callback_type_local_timer_exit(pvsched_vector_exit);
	check_trace_callback_type_call_function_entry(pvsched_vector_entry);
	check_trace_callback_type_call_function_exit(pvsched_vector_exit);
	check_trace_callback_type_call_function_single_entry(pvsched_vector_entry);
	check_trace_callback_type_call_function_single_exit(pvsched_vector_exit);
	check_trace_callback_type_irq_work_entry(pvsched_vector_entry);
	check_trace_callback_type_irq_work_exit(pvsched_vector_exit);
	check_trace_callback_type_softirq_entry(pvsched_softirq_entry);
	check_trace_callback_type_softirq_exit(pvsched_softirq_exit);
	check_trace_callback_type_sched_switch(pvsched_switch);
	check_trace_callback_type_cpu_idle(pvsched_idle);
}

static void pvsched_find_hook(struct tracepoint *tracepoint, void *data)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(pvsched_hooks); i++)
		if (!strcmp(pvsched_hooks[i].name, tracepoint->name))
			pvsched_hooks[i].tracepoint = tracepoint;
}

static void pvsched_detach(unsigned int number)
{
	while (number--)
		tracepoint_probe_unregister(pvsched_hooks[number].tracepoint,
					    pvsched_hooks[number].probe, NULL);
	tracepoint_synchronize_unregister();
}

static int pvsched_attach(struct device *dev)
{
	unsigned int i;
	int ret;

	for_each_kernel_tracepoint(pvsched_find_hook, NULL);
	for (i = 0; i < ARRAY_SIZE(pvsched_hooks); i++) {
		struct pvsched_hook *hook = &pvsched_hooks[i];

		ret = hook->tracepoint ?
			tracepoint_probe_register(hook->tracepoint,
						  hook->probe, NULL) : -ENOENT;
		if (ret) {
			dev_err(dev, "cannot attach to tracepoint %s\n",
				hook->name);
			pvsched_detach(i);
			return ret;
		}
	}
	return 0;
}

/*
 * These two run on the CPU that they are about. One that cannot be registered
 * goes without, as the device is no reason for a CPU not to come up.
 */
static int pvsched_online(unsigned int cpu)
{
	struct pvsched_cpu *this = per_cpu_ptr(&pvsched_cpus, cpu);
	u32 self = readl(pvsched_regs + PVSCHED_SELF);
	struct pvsched_line *line;
	void __iomem *window;
	phys_addr_t where;
	u32 status;

	if (self >= pvsched_vcpus) {
		dev_warn(&pvsched_dev->dev, "CPU %u has no window\n", cpu);
		return 0;
	}
	/* Memory of a power of two is aligned to its size. */
	line = kzalloc_node(sizeof(*line), GFP_KERNEL, cpu_to_node(cpu));
	if (!line)
		return 0;

	window = pvsched_regs + PVSCHED_WINDOW(self);
	where = virt_to_phys(line);
	writel(lower_32_bits(where), window + PVSCHED_LINE_LO);
	writel(upper_32_bits(where), window + PVSCHED_LINE_HI);
	status = readl(window + PVSCHED_STATUS);
	if (status != PVSCHED_REGISTERED) {
		dev_warn(&pvsched_dev->dev, "CPU %u is refused: %u\n", cpu,
			 status);
		kfree(line);
		return 0;
	}
	this->window = window;
	this->rung = jiffies - PVSCHED_AGAIN;
	this->oldest = 0;
	memset(this->sleepers, 0, sizeof(this->sleepers));
	/* From here on probes may interrupt us. */
	smp_store_release(&this->line, line);
	return 0;
}

static int pvsched_offline(unsigned int cpu)
{
	struct pvsched_cpu *this = per_cpu_ptr(&pvsched_cpus, cpu);
	struct pvsched_line *line = this->line;

	if (!line)
		return 0;
	/* No probe is under way on this CPU, and none finds the line any more. */
	WRITE_ONCE(this->line, NULL);
	writel(0, this->window + PVSCHED_LINE_LO);
	writel(0, this->window + PVSCHED_LINE_HI);
	kfree(line);
	return 0;
}

/* Register the CPUs that are there, and those that come later */
static int pvsched_start(void)
{
	pvsched_features = readl(pvsched_regs + PVSCHED_FEATURES) &
		(PVSCHED_FEATURE_BOOST | PVSCHED_FEATURE_WAIT);
	writel(pvsched_features, pvsched_regs + PVSCHED_DRIVER_FEATURES);
	pvsched_state = cpuhp_setup_state(CPUHP_AP_ONLINE_DYN, "pvsched:online",
					  pvsched_online, pvsched_offline);
	return min(pvsched_state, 0);
}

static void pvsched_stop(void)
{
	if (pvsched_state > 0)
		cpuhp_remove_state(pvsched_state);
	pvsched_state = 0;
}

static int pvsched_init_device(struct pci_dev *pdev)
{
	int ret;

	/* The host could read nothing in the lines. */
	if (cc_platform_has(CC_ATTR_GUEST_MEM_ENCRYPT))
		return -EOPNOTSUPP;
	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;
	ret = pcim_iomap_regions(pdev, BIT(0), KBUILD_MODNAME);
	if (ret)
		return ret;
	pvsched_regs = pcim_iomap_table(pdev)[0];
	pvsched_vcpus = readl(pvsched_regs + PVSCHED_VCPUS);
	/* A later version still does what this one does. */
	if (readl(pvsched_regs + PVSCHED_VERSION) < 1 ||
	    PVSCHED_WINDOW((u64)pvsched_vcpus) > pci_resource_len(pdev, 0))
		return -ENODEV;

	ret = pvsched_attach(&pdev->dev);
	if (ret)
		return ret;
	ret = pvsched_start();
	if (ret)
		pvsched_detach(ARRAY_SIZE(pvsched_hooks));
	return ret;
}

static int pvsched_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	int ret;

	if (cmpxchg(&pvsched_dev, NULL, pdev))
		return -EBUSY;
	ret = pvsched_init_device(pdev);
	if (ret)
		pvsched_dev = NULL;
	return ret;
}

static void pvsched_remove(struct pci_dev *pdev)
{
	pvsched_stop();
	pvsched_detach(ARRAY_SIZE(pvsched_hooks));
	pvsched_dev = NULL;
}

/* Memory belongs to the next kernel then, and the host is to leave it alone. */
static void pvsched_shutdown(struct pci_dev *pdev)
{
	pvsched_stop();
}

/*
 * The device forgets all while it sleeps. CPUs that go and come meanwhile find
 * no callback, so none of them touches it.
 */
static int __maybe_unused pvsched_suspend(struct device *dev)
{
	pvsched_stop();
	return 0;
}

static int __maybe_unused pvsched_resume(struct device *dev)
{
	return pvsched_start();
}

static SIMPLE_DEV_PM_OPS(pvsched_pm, pvsched_suspend, pvsched_resume);

static const struct pci_device_id pvsched_ids[] = {
	{ PCI_DEVICE(PCI_VENDOR_ID_REDHAT_QUMRANET, 0x10f0) },
	{ }
};
MODULE_DEVICE_TABLE(pci, pvsched_ids);

static struct pci_driver pvsched_driver = {
	.name = KBUILD_MODNAME,
	.id_table = pvsched_ids,
	.probe = pvsched_probe,
	.remove = pvsched_remove,
	.shutdown = pvsched_shutdown,
	.driver.pm = &pvsched_pm,
};
module_pci_driver(pvsched_driver);

MODULE_DESCRIPTION("Tell the host what each CPU is doing");
MODULE_LICENSE("GPL");
