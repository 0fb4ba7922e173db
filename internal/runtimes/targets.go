package runtimes

// Targets are all runtimes that can be set up, in the order that people are shown them.
func Targets() []Target {
	return []Target{
		Docker{}, DockerDesktop{}, Colima{}, Containerd{}, Nerdctl{}, Podman{}, CRIO{}, K3s(), RKE2(), BuildKit{}, Buildx(), Kind{}, Minikube{}, MicroK8s{}, Talos{},
	}
}

// Here are those of the targets whose settings are on this machine, and which do not
// make nodes elsewhere from files: whether they use a mirror can be seen.
func Here() []Target {
	var here []Target
	for _, t := range Targets() {
		switch t.Name() {
		case "buildx", "kind", "minikube", "talos", "colima", "docker-desktop":
		default:
			here = append(here, t)
		}
	}
	return here
}
