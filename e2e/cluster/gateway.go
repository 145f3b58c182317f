//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"time"

	"github.com/continuo-ml/continuo/e2e/cluster/internal/api"
	"github.com/continuo-ml/continuo/e2e/cluster/internal/host"
	"github.com/continuo-ml/continuo/e2e/internal/binaries"
)

// The Gateway that gatewayUp makes: requests from this machine and from pods come in at gatewayURL.
const (
	gatewayName = "gateways/web"
	gatewayPort = 18000
	gatewayURL  = "http://" + nodeIP + ":18000"
)

// gatewayUp adds the Gateway API to a cluster that runs, with a controller that carries traffic: Traefik. It is no part of up, because most
// of what is tested needs none, and building it takes longer than all else.
func (c *cluster) gatewayUp(ctx context.Context) error {
	if err := c.buildModules(ctx, traefik); err != nil {
		return err
	}
	// The kinds are those of the version that the controller was built with.
	crds, err := c.builder.Files(ctx, binaries.Module{Name: traefik.Name, Path: "sigs.k8s.io/gateway-api"})
	if err != nil {
		return err
	}
	client, err := c.admin()
	if err != nil {
		return err
	}
	if err := applyKinds(ctx, client, filepath.Join(crds, "config/crd/standard/gateway.networking.k8s.io_*.yaml")); err != nil {
		return fmt.Errorf("start traefik: %w", err)
	}
	running, err := c.dir.Running()
	if err != nil {
		return err
	}
	if !slices.Contains(running, "traefik") {
		if err := c.dir.Start(ctx, c.traefik()); err != nil {
			return err
		}
	}
	for _, o := range gatewayObjects() {
		if err := client.Apply(ctx, o); err != nil {
			return fmt.Errorf("start traefik: %w", err)
		}
	}
	if err := programmed(ctx, client); err != nil {
		return err
	}
	c.say("Gateway %s answers at %s", gatewayName, gatewayURL)
	return nil
}

func (c *cluster) traefik() host.Component {
	return host.Component{
		Name: "traefik",
		Args: []string{c.bin["traefik"], fmt.Sprintf("--entrypoints.web.address=%s:%d", nodeIP, gatewayPort), "--entrypoints.traefik.address=127.0.0.1:18085", "--ping=true",
			"--providers.kubernetesgateway=true", "--providers.kubernetesgateway.statusaddress.ip=" + nodeIP, "--global.checknewversion=false", "--global.sendanonymoususage=false", "--log.level=INFO"},
		Env:   []string{"KUBECONFIG=" + c.kubeconfig("admin")},
		Ready: c.ready()["traefik"], Deadline: 60 * time.Second,
	}
}

func gatewayObjects() []api.Object {
	return []api.Object{
		namespace("gateways"),
		{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": map[string]any{"name": "traefik"},
			"spec": map[string]any{"controllerName": "traefik.io/gateway-controller"}},
		{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": map[string]any{"name": "web", "namespace": "gateways"},
			"spec": map[string]any{"gatewayClassName": "traefik", "listeners": []any{map[string]any{
				"name": "web", "protocol": "HTTP", "port": gatewayPort, "allowedRoutes": map[string]any{"namespaces": map[string]any{"from": "All"}},
			}}}},
	}
}

// programmed waits until the controller says that the Gateway carries traffic.
func programmed(ctx context.Context, client *api.Client) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		var g struct {
			Status struct {
				Conditions []struct{ Type, Status, Message string }
			}
		}
		err := client.Get(ctx, "/apis/gateway.networking.k8s.io/v1/namespaces/gateways/gateways/web", &g)
		if err == nil {
			err = errors.New("its controller has said nothing about it")
		}
		for _, cond := range g.Status.Conditions {
			switch {
			case cond.Type != "Programmed":
			case cond.Status == "True":
				return nil
			default:
				err = fmt.Errorf("it is not programmed: %s", cond.Message)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("start traefik: gateway %s: %w", gatewayName, err)
		case <-tick.C:
		}
	}
}

func (c *cluster) gatewayReady() func(context.Context) error {
	return answers("http://127.0.0.1:18085/ping", http.StatusOK)
}
