// Prints the runtime specification of a container, as containerd makes it for a kubelet: its own defaults, its own seccomp profile for
// the capabilities that are given. What is asked for comes as JSON on standard input.
package main

import (
	"context"
	"encoding/json"
	"os"

	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
)

type request struct {
	ID               string
	Rootfs           string
	ReadOnlyRootfs   bool
	Args             []string
	Env              []string
	UID, GID         uint32
	Capabilities     []string
	NoNewPrivileges  bool
	RuntimeDefault   bool
	HostPID          bool
	NetworkNamespace string
	Mounts           []specs.Mount
	Cgroup           string
}

func check(err error) {
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
}

func main() {
	var r request
	decoder := json.NewDecoder(os.Stdin)
	decoder.DisallowUnknownFields()
	check(decoder.Decode(&r))

	options := []oci.SpecOpts{
		// What the CRI plugin takes away from the defaults.
		oci.WithoutRunMount,
		func(_ context.Context, _ oci.Client, _ *containers.Container, s *specs.Spec) error {
			s.Process.Rlimits = nil
			s.Process.ApparmorProfile = ""
			s.Linux.Seccomp = nil
			return nil
		},
		oci.WithRootFSPath(r.Rootfs),
		oci.WithProcessArgs(r.Args...),
		oci.WithDefaultPathEnv,
		oci.WithEnv(r.Env),
		oci.WithUIDGID(r.UID, r.GID),
		oci.WithNewPrivileges,
		oci.WithLinuxNamespace(specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: r.NetworkNamespace}),
		// As where cgroup v2 is the only one.
		oci.WithLinuxNamespace(specs.LinuxNamespace{Type: specs.CgroupNamespace}),
		oci.WithCapabilities(r.Capabilities),
		func(_ context.Context, _ oci.Client, _ *containers.Container, s *specs.Spec) error {
			s.Process.Capabilities.Ambient = nil
			// A mount of the pod takes the place of one that every container has.
			var kept []specs.Mount
			for _, mount := range s.Mounts {
				replaced := false
				for _, other := range r.Mounts {
					replaced = replaced || other.Destination == mount.Destination
				}
				if !replaced {
					kept = append(kept, mount)
				}
			}
			s.Mounts = append(kept, r.Mounts...)
			return nil
		},
		oci.WithCgroup(r.Cgroup),
	}
	if r.ReadOnlyRootfs {
		options = append(options, oci.WithRootFSReadonly())
	}
	if r.NoNewPrivileges {
		options = append(options, oci.WithNoNewPrivileges)
	}
	if r.HostPID {
		options = append(options, oci.WithHostNamespace(specs.PIDNamespace))
	}
	if r.RuntimeDefault {
		options = append(options, seccomp.WithDefaultProfile())
	}

	ctx := namespaces.WithNamespace(context.Background(), "k8s.io")
	spec, err := oci.GenerateSpecWithPlatform(ctx, nil, "linux/amd64", &containers.Container{ID: r.ID}, options...)
	check(err)
	check(json.NewEncoder(os.Stdout).Encode(spec))
}
