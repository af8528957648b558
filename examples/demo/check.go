package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

type object = map[string]any

// checkSecondVersion uses what only the second version has: the field note of an
// order, and shipments.
func checkSecondVersion(ctx context.Context, url string) error {
	var version, customer, order, again, shipment object
	for _, step := range []struct {
		method string
		path   func() string
		body   func() object
		status int
		answer *object
	}{
		{"GET", at("/version"), nothing, http.StatusOK, &version},
		{"POST", at("/customers"), func() object { return object{"name": "Ada Winter", "email": "ada@example.com"} }, http.StatusCreated, &customer},
		{"POST", at("/orders"), func() object { return object{"customer_id": customer["id"], "note": "Please ring twice."} }, http.StatusCreated, &order},
		{"GET", func() string { return fmt.Sprint("/orders/", order["id"]) }, nothing, http.StatusOK, &again},
		{"POST", at("/shipments"), func() object { return object{"order_id": order["id"], "carrier": "post"} }, http.StatusCreated, &shipment},
		{"GET", func() string { return fmt.Sprint("/shipments/", shipment["id"]) }, nothing, http.StatusOK, &shipment},
	} {
		if err := exchange(ctx, step.method, url+step.path(), step.body(), step.status, step.answer); err != nil {
			return err
		}
	}
	switch {
	case version["version"] != secondVersion:
		return fmt.Errorf("/version says %v", version["version"])
	case again["note"] != "Please ring twice.":
		return fmt.Errorf("the note of the order is %v", again["note"])
	case shipment["order_id"] != order["id"]:
		return fmt.Errorf("the shipment is of order %v, want %v", shipment["order_id"], order["id"])
	}
	return nil
}

func at(path string) func() string { return func() string { return path } }

func nothing() object { return nil }

// exchange sends body, if it is not nil, and decodes the answer.
func exchange(ctx context.Context, method, url string, body object, status int, answer *object) (err error) {
	var content []byte
	if body != nil {
		if content, err = json.Marshal(body); err != nil {
			return err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(content))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	received, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return err
	}
	if response.StatusCode != status {
		return fmt.Errorf("%s %s: status %d, want %d: %s", method, url, response.StatusCode, status, bytes.TrimSpace(received))
	}
	return json.Unmarshal(received, answer)
}
