// The structs that the BPF programs share with the addon.
#pragma once

#include <linux/types.h>

#include "bpf/events.h"
#include "bpf/flow_key.h"
#include "bpf/secret_losses.h"
#include "bpf/socket_state.h"
